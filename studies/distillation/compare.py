"""Compare all kinds of teaching of one small student with the same budget, seeds and controls.

    python studies/distillation/compare.py --data digits --seeds 5 --out /tmp/compare-digits
    python studies/distillation/compare.py --data fashion-mnist --seeds 3 --out /tmp/compare-fashion

Each result is a file below --out, so the same command continues after a stop. The table is printed as CSV at the end,
or with --table. Accuracy is that of the exported file on the validation split. `to kd` is the mean of the paired
differences over the seeds. `cost` is the processor time relative to plain training, without teachers trained once for
all students.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

from nas_compress.config.schema import TeacherSection, TrainingSection
from nas_compress.data.dataset import Dataset
from nas_compress.data.load_dataset import load_dataset
from nas_compress.devices.onnxruntime_cpu.device import OnnxruntimeCpu
from nas_compress.files import write_json
from nas_compress.search.setup import comparison_context
from nas_compress.trial.context import TrialContext
from nas_compress.trial.run import run_trial
from nas_compress.trial.train_student import find_supervision
from nas_compress.values.candidate import Candidate, LossTerm, Teaching, cross_entropy, distillation, label_smoothing

KD = distillation(hard_weight=0.1, soft_weight=0.9, temperature=4.0)
HARD = LossTerm(name="cross_entropy")

RESNET = Candidate(family="resnet", depths=(1, 1, 1), width_multiplier=0.25)
VIT = Candidate(family="vit", depths=(2,), width_multiplier=0.5, mlp_ratio=2.0)

Method = tuple[str, str, tuple[LossTerm, ...], Teaching]
"""Group, name, losses and teaching of each method."""


def beside(name: str, weight: float = 1.0, **settings: float) -> tuple[LossTerm, ...]:
    """Return cross-entropy and one term."""
    return (HARD, LossTerm(name=name, weight=weight, settings=settings))


def with_kd(name: str, weight: float) -> tuple[LossTerm, ...]:
    """Return KD and one term."""
    return (*KD, LossTerm(name=name, weight=weight))


CONVOLUTIONAL: list[Method] = [
    ("control", "cross-entropy", cross_entropy(), Teaching()),
    ("control", "label smoothing", label_smoothing(0.1), Teaching()),
    ("control", "virtual teacher", (LossTerm(name="teacher_free"),), Teaching()),
    ("control", "kd, wrong classes permuted", beside("permuted_kd", 9.0), Teaching()),
    ("logits", "kd", KD, Teaching()),
    ("logits", "hard labels", beside("hard_label"), Teaching()),
    ("logits", "label refinery", (LossTerm(name="label_refinery"),), Teaching()),
    ("logits", "dkd", beside("dkd"), Teaching()),
    ("logits", "dist", beside("dist", 2.0), Teaching()),
    ("features", "fitnet + kd", with_kd("fitnet", 10.0), Teaching()),
    (
        "features",
        "fitnet in two stages, then kd",
        (*KD, LossTerm(name="fitnet", weight=10.0, settings={"hint_share": 0.3})),
        Teaching(),
    ),
    ("features", "attention transfer + kd", with_kd("attention_transfer", 100.0), Teaching()),
    ("features", "rkd distance + kd", with_kd("rkd_distance", 25.0), Teaching()),
    ("features", "rkd angle + kd", with_kd("rkd_angle", 50.0), Teaching()),
    ("features", "similarity preserving + kd", with_kd("similarity_preserving", 300.0), Teaching()),
    ("teacher", "kd, teacher at 25 %", KD, Teaching(checkpoint=0.25)),
    ("teacher", "kd, 3 teachers, probabilities", KD, Teaching(teacher="ensemble")),
    ("teacher", "kd, 3 teachers, logits", KD, Teaching(teacher="ensemble", average="logits")),
    ("teacher", "kd, assistant", KD, Teaching(teacher="assistant")),
    ("teacher", "kd, born again twice", KD, Teaching(teacher="born_again")),
    ("teacher", "mutual learning", beside("kd", temperature=1.0), Teaching(teacher="mutual")),
    ("schedule", "kd, annealed", KD, Teaching(annealing=True)),
    ("schedule", "kd, stopped at 70 %", KD, Teaching(soft_stop=0.7)),
]

TRANSFORMER: list[Method] = [
    ("vit from vit", "cross-entropy", cross_entropy(), Teaching()),
    ("vit from vit", "kd", KD, Teaching()),
    ("vit from vit", "hidden states + kd", with_kd("hidden_state", 1.0), Teaching()),
    ("vit from vit", "embedding + kd", with_kd("embedding", 1.0), Teaching()),
    ("vit from vit", "attention matrices + kd", with_kd("attention_matrix", 1.0), Teaching()),
    ("vit from vit", "minilm relations + kd", with_kd("minilm_relations", 1.0), Teaching()),
    ("vit from vit", "rkd distance + kd", with_kd("rkd_distance", 25.0), Teaching()),
]

SETTINGS = {
    "digits": {
        "train_samples": None,
        "teacher": TeacherSection(family="resnet", widths=(32, 64, 128), depths=(1, 1, 1), epochs=20),
        "training": TrainingSection(epochs=8, batch_size=32, learning_rate=0.01),
        "methods": CONVOLUTIONAL,
        "student": RESNET,
    },
    "digits-vit": {
        "train_samples": None,
        "teacher": TeacherSection(family="vit", epochs=40, learning_rate=3e-3),
        "training": TrainingSection(epochs=16, batch_size=32, learning_rate=0.005),
        "methods": TRANSFORMER,
        "student": VIT,
    },
    "fashion-mnist": {
        "train_samples": 6000,
        "teacher": TeacherSection(
            family="resnet", widths=(16, 32, 64), depths=(1, 1, 1), epochs=10, learning_rate=0.01
        ),
        "training": TrainingSection(epochs=4, batch_size=64, learning_rate=0.01),
        "methods": CONVOLUTIONAL,
        "student": replace(RESNET, stem_stride=2),
    },
}


def make_context(name: str, out: Path) -> TrialContext:
    """Return the data, teacher and device of one comparison."""
    settings = SETTINGS[name]
    dataset: Dataset = load_dataset(name=name.removesuffix("-vit"), train_samples=settings["train_samples"], shift=None)
    return comparison_context(dataset, settings["teacher"], settings["training"], folder=out, target=OnnxruntimeCpu())


def run(name: str, seeds: int, out: Path) -> None:
    """Train the missing students, seed by seed."""
    context = make_context(name, out)
    for seed in range(seeds):
        for group, method, losses, teaching in SETTINGS[name]["methods"]:
            path = out / name / f"{seed}" / f"{group}, {method}.json"
            if path.is_file():
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            candidate = replace(SETTINGS[name]["student"], losses=losses, teaching=teaching)
            find_supervision(candidate, context)  # teachers are trained here, not within the time below
            started = time.process_time()
            outcome = run_trial(candidate, context, seed=seed, model=path.with_suffix(".onnx"))
            spent = time.process_time() - started
            if outcome.measured is None or outcome.state != "trained":
                raise SystemExit(f"{method}: {outcome.state} {outcome.reason}")
            write_json(
                path,
                {
                    "accuracy": outcome.measured.figures["accuracy"],
                    "seconds": spent,
                    "parameters": outcome.measured.figures["parameters"],
                },
            )
            print(f"seed {seed}: {method}: {outcome.measured.figures['accuracy']:.2%}", file=sys.stderr, flush=True)


def results(name: str, seeds: int, out: Path, group: str, method: str) -> list[dict[str, float]]:
    """Return the results, seed by seed."""
    return [json.loads((out / name / f"{seed}" / f"{group}, {method}.json").read_text()) for seed in range(seeds)]


def named(rows: dict[tuple[str, str], list[dict[str, float]]], method: str) -> list[dict[str, float]]:
    """Return the results of one method."""
    return next(values for (_, name), values in rows.items() if name == method)


def table(name: str, seeds: int, out: Path) -> None:
    """Print the finished results as CSV."""
    methods = SETTINGS[name]["methods"]
    rows = {(group, method): results(name, seeds, out, group, method) for group, method, _, _ in methods}
    plain = statistics.median(row["seconds"] for row in named(rows, "cross-entropy"))
    base = [row["accuracy"] for row in named(rows, "kd")]
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["data", "group", "method", "seeds", "mean", "std", "to kd", "std of the difference", "cost"])
    for (group, method), values in rows.items():
        accuracies = [row["accuracy"] for row in values]
        differences = [own - other for own, other in zip(accuracies, base, strict=True)]
        writer.writerow(
            [
                name,
                group,
                method,
                seeds,
                f"{statistics.mean(accuracies):.4f}",
                f"{statistics.stdev(accuracies):.4f}",
                f"{statistics.mean(differences):+.4f}",
                f"{statistics.stdev(differences):.4f}",
                f"{statistics.median(row['seconds'] for row in values) / plain:.2f}",
            ]
        )


def main() -> None:
    """Train, then print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", choices=SETTINGS, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--table", action="store_true", help="only print the table")
    given = parser.parse_args()
    if not given.table:
        run(given.data, given.seeds, given.out)
    table(given.data, given.seeds, given.out)


if __name__ == "__main__":
    main()
