"""Compare ways of teaching one student three tasks of handwritten digits, with the same budget and seeds.

    python studies/bam/compare.py --labels 0 --seeds 3 --out /tmp/bam
    python studies/bam/compare.py --labels 200 --seeds 3 --out /tmp/bam

Each result is a file below --out, so the same command continues after a stop. The table is printed as CSV at the end.
Figures of students are those of the exported files on the validation split, figures of teachers those of the networks.
A way of single tasks has a network for each task. Each seed has teachers of its own. With few labels a teacher has more
epochs, so that it takes as many steps as with all labels: an epoch of 200 samples has 6 steps, one of 1,079 has 33.

gain: the mean of the paired differences to the reference of the way, in the row's kind of networks (`single, labels` or
`multi, labels`), and their standard deviation. cost: processor time of a student, relative to `multi, labels`, without
the teachers.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import sys
import time
from pathlib import Path

from nas_compress.config.schema import TeacherSection, TrainingSection
from nas_compress.data.load_dataset import load_dataset
from nas_compress.data.several_tasks.parts import TaskChoice
from nas_compress.devices.onnxruntime_cpu.device import OnnxruntimeCpu
from nas_compress.files import write_json
from nas_compress.search.setup import comparison_context
from nas_compress.training.validate import evaluate
from nas_compress.trial.context import TrialContext
from nas_compress.trial.run import run_trial
from nas_compress.trial.train_student import find_supervision
from nas_compress.values.candidate import Candidate, LossTerm, Teaching
from nas_compress.values.metrics.multi_task import task_rows
from nas_compress.values.metrics.table import declare_metrics

CHOICES = {
    "digit": TaskChoice(name="digit", labels="label", metric="accuracy"),
    "parity": TaskChoice(name="parity", labels="parity", metric="accuracy"),
    "ink": TaskChoice(name="ink", labels="ink", metric="r2"),
}

FIGURES = ("accuracy@digit", "accuracy@parity", "r2@ink")

SAMPLES = 1_079
"""Training samples of the digits."""

TEACHER_EPOCHS = 10
"""Epochs of a teacher with all labels."""

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

TEACHERS = {"teachers of one task": True, "teacher of all tasks": False}


def make_context(labels: int, tasks: list[str], seed: int, out: Path) -> TrialContext:
    """Return data, teacher and device for some of the tasks. labels: 0 for all. seed: of the teacher."""
    dataset = load_dataset(name="digits", labels=labels or None, tasks=[CHOICES[task] for task in tasks])
    teacher = TeacherSection(
        family="resnet",
        widths=(16, 32, 64),
        depths=(1, 1, 1),
        epochs=TEACHER_EPOCHS * SAMPLES // (labels or SAMPLES),
        learning_rate=0.01,
        seed=seed,
    )
    return comparison_context(dataset, teacher, TRAINING, folder=out, target=OnnxruntimeCpu())


def student(way: str, contexts: list[TrialContext], *, seed: int, model: Path) -> dict[str, float]:
    """Train a way's students, and return their figures together."""
    _, losses, teaching = WAYS[way]
    candidate = Candidate(family="resnet", depths=(1, 1, 1), width_multiplier=0.5, losses=losses, teaching=teaching)
    found = {"size_bytes": 0.0, "seconds": 0.0}
    for context in contexts:
        find_supervision(candidate, context)  # teachers are trained here, not within the time below
        started = time.process_time()
        outcome = run_trial(candidate, context, seed=seed, model=model)
        found["seconds"] += time.process_time() - started
        if outcome.measured is None or outcome.state != "trained":
            raise SystemExit(f"{way}: {outcome.state} {outcome.reason}")
        figures = outcome.measured.figures
        found["size_bytes"] += figures["size_bytes"]
        found |= {name: figures[name] for name in FIGURES if name in figures}
    return found


def teacher(contexts: list[TrialContext]) -> dict[str, float]:
    """Return the figures of the teachers."""
    found: dict[str, float] = {}
    for context in contexts:
        figures = evaluate(context.teacher.network, context.validation, context.dataset.task)
        found |= {name: figures[name] for name in FIGURES if name in figures}
    return found


def run(labels: int, seeds: int, out: Path) -> None:
    """Train the missing students, seed by seed."""
    for seed in range(seeds):
        folder = out / f"{labels}" / f"{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        missing = [way for way in (*TEACHERS, *WAYS) if not (folder / f"{way}.json").is_file()]
        if not missing:
            continue
        together = [make_context(labels, list(CHOICES), seed, out)]
        alone = [make_context(labels, [task], seed, out) for task in CHOICES]
        for way in missing:
            path = folder / f"{way}.json"
            contexts = alone if (TEACHERS[way] if way in TEACHERS else WAYS[way][0]) else together
            if way in TEACHERS:
                found = teacher(contexts)
            else:
                found = student(way, contexts, seed=seed, model=path.with_suffix(".onnx"))
            write_json(path, found)
            print(f"seed {seed}: {way}: {found}", file=sys.stderr, flush=True)


def table(labels: int, seeds: int, out: Path) -> None:
    """Print the finished results as CSV."""
    results = {
        way: [json.loads((out / f"{labels}" / f"{seed}" / f"{way}.json").read_text()) for seed in range(seeds)]
        for way in (*TEACHERS, *WAYS)
    }
    plain = statistics.median(row["seconds"] for row in results["multi, labels"])
    columns = [f"{name} {kind}" for name in FIGURES for kind in ("mean", "std", "gain", "std of gain")]
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["labels", "way", "seeds", "size_bytes", "cost", *columns])
    for way, rows in results.items():
        if way in TEACHERS:
            size, cost, reference = "", "", None
        else:
            size = f"{rows[0]['size_bytes']:.0f}"
            cost = f"{statistics.median(row['seconds'] for row in rows) / plain:.2f}"
            reference = results["single, labels" if WAYS[way][0] else "multi, labels"]
        cells: list[str] = []
        for name in FIGURES:
            values = [row[name] for row in rows]
            cells += [f"{statistics.mean(values):.4f}", f"{statistics.stdev(values):.4f}"]
            if reference is None:
                cells += ["", ""]
            else:
                gains = [value - row[name] for value, row in zip(values, reference, strict=True)]
                cells += [f"{statistics.mean(gains):+.4f}", f"{statistics.stdev(gains):.4f}"]
        writer.writerow([labels or "all", way, seeds, size, cost, *cells])


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
