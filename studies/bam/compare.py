"""Compare ways of teaching one student three tasks of handwritten digits, with the same budget and seeds.

    python studies/bam/compare.py --labels 0 --seeds 3 --out /tmp/bam
    python studies/bam/compare.py --labels 200 --seeds 3 --out /tmp/bam

Each result is a file below --out, so the same command continues after a stop. The table is printed as CSV at the end.
Figures are those of the exported files on the validation split. A way of single tasks has a network for each task.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import sys
from pathlib import Path

from nas_compress.config.schema import TeacherSection, TrainingSection
from nas_compress.data.load_dataset import load_dataset
from nas_compress.data.several_tasks.parts import TaskChoice
from nas_compress.devices.onnxruntime_cpu.device import OnnxruntimeCpu
from nas_compress.files import write_json
from nas_compress.search.setup import comparison_context
from nas_compress.trial.context import TrialContext
from nas_compress.trial.run import run_trial
from nas_compress.trial.train_student import find_supervision
from nas_compress.values.candidate import Candidate, LossTerm, Teaching
from nas_compress.values.metrics.table import declare_metrics
from nas_compress.values.metrics.task_names import task_rows

CHOICES = {
    "digit": TaskChoice(name="digit", labels="label", metric="accuracy"),
    "parity": TaskChoice(name="parity", labels="parity", metric="accuracy"),
    "ink": TaskChoice(name="ink", labels="ink", metric="r2"),
}

FIGURES = ("accuracy@digit", "accuracy@parity", "r2@ink")

TEACHER = TeacherSection(family="resnet", widths=(16, 32, 64), depths=(1, 1, 1), epochs=20, learning_rate=0.01)
TRAINING = TrainingSection(epochs=8, batch_size=32, learning_rate=0.01)

LABELS = (LossTerm(name="task_loss"),)
SOFT = (LossTerm(name="kd", settings={"temperature": 1.0}),)
BOTH = (*LABELS, *SOFT)

WAYS: dict[str, tuple[bool, tuple[LossTerm, ...], Teaching]] = {
    "single, labels": (True, LABELS, Teaching()),
    "single to single, annealed": (True, BOTH, Teaching(annealing=True)),
    "multi, labels": (False, LABELS, Teaching()),
    "multi to multi": (False, BOTH, Teaching()),
    "multi to multi, annealed": (False, BOTH, Teaching(annealing=True)),
    "single to multi, teachers only": (False, SOFT, Teaching(teacher="single_tasks")),
    "single to multi": (False, BOTH, Teaching(teacher="single_tasks")),
    "single to multi, annealed": (False, BOTH, Teaching(teacher="single_tasks", annealing=True)),
}
"""A network for each task, losses and teaching of each way."""


def make_context(labels: int, tasks: list[str], out: Path) -> TrialContext:
    """Return data, teacher and device for some of the tasks. labels: 0 for all."""
    dataset = load_dataset(name="digits", labels=labels or None, tasks=[CHOICES[task] for task in tasks])
    return comparison_context(dataset, TEACHER, TRAINING, folder=out, target=OnnxruntimeCpu())


def run(labels: int, seeds: int, out: Path) -> None:
    """Train the missing students, seed by seed."""
    together = make_context(labels, list(CHOICES), out)
    alone = [make_context(labels, [task], out) for task in CHOICES]
    for seed in range(seeds):
        for way, (single, losses, teaching) in WAYS.items():
            path = out / f"{labels}" / f"{seed}" / f"{way}.json"
            if path.is_file():
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            candidate = Candidate(
                family="resnet", depths=(1, 1, 1), width_multiplier=0.5, losses=losses, teaching=teaching
            )
            found: dict[str, float] = {"size_bytes": 0.0}
            for context in alone if single else [together]:
                find_supervision(candidate, context)
                outcome = run_trial(candidate, context, seed=seed, model=path.with_suffix(".onnx"))
                if outcome.measured is None or outcome.state != "trained":
                    raise SystemExit(f"{way}: {outcome.state} {outcome.reason}")
                figures = outcome.measured.figures
                found["size_bytes"] += figures["size_bytes"]
                found |= {name: figures[name] for name in FIGURES if name in figures}
            write_json(path, found)
            print(f"seed {seed}: {way}: {found}", file=sys.stderr, flush=True)


def table(labels: int, seeds: int, out: Path) -> None:
    """Print the finished results as CSV."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["labels", "way", "seeds", "size_bytes", *(f"{n} {k}" for n in FIGURES for k in ("mean", "std"))])
    for way in WAYS:
        rows = [json.loads((out / f"{labels}" / f"{seed}" / f"{way}.json").read_text()) for seed in range(seeds)]
        spread = [
            f"{function([row[name] for row in rows]):.4f}"
            for name in FIGURES
            for function in (statistics.mean, statistics.stdev)
        ]
        writer.writerow([labels or "all", way, seeds, f"{rows[0]['size_bytes']:.0f}", *spread])


def main() -> None:
    """Train, then print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--labels", type=int, default=0, help="training samples with labels, 0 for all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    declare_metrics(task_rows(CHOICES))
    run(given.labels, given.seeds, given.out)
    table(given.labels, given.seeds, given.out)


if __name__ == "__main__":
    main()
