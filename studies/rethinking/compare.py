"""Test whether surviving weights matter or only the shape (Liu et al. 2019, arXiv 1810.05270).

    python studies/rethinking/compare.py --data digits --out /tmp/rethinking
    python studies/rethinking/compare.py --data fashion-mnist --out /tmp/rethinking

A trained residual network is cut at three ratios by each criterion. Every shape is trained in three ways:

- `inherit`: the surviving weights are fine-tuned, with a learning rate of their own;
- `scratch_e`: fresh weights, the same number of epochs;
- `scratch_b`: fresh weights, the teacher's compute, at most twice the epochs as in the paper.

Each result is a file below --out, so the same command continues after a stop. The table is printed as CSV at the end,
or with --table. Accuracy is that of the exported file on the validation split.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nas_compress.config.schema import TeacherSection, TrainingSection
from nas_compress.data.load_dataset import load_dataset
from nas_compress.devices.onnxruntime_cpu.device import OnnxruntimeCpu
from nas_compress.devices.onnxruntime_cpu.latency import LatencyMeter
from nas_compress.files import write_json
from nas_compress.search.setup import comparison_context
from nas_compress.trial.context import TrialContext
from nas_compress.trial.run import run_trial
from nas_compress.values.candidate import Candidate

RATIOS = (0.3, 0.5, 0.7)
CRITERIA = ("l1", "bn_scale", "taylor", "random", "uniform")
WAYS = {
    "inherit": ("inherit", "scratch_e"),
    "scratch_e": ("scratch", "scratch_e"),
    "scratch_b": ("scratch", "scratch_b"),
}
"""Initial weights and budget."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The data, the teacher to cut, and the budget of each training."""

    train_samples: int | None
    teacher: TeacherSection
    training: TrainingSection


SETTINGS = {
    "digits": Setting(
        train_samples=None,
        teacher=TeacherSection(family="resnet", widths=(16, 32, 64), depths=(1, 1, 1), epochs=8, learning_rate=0.01),
        training=TrainingSection(epochs=8, batch_size=64, learning_rate=0.01, inherit_learning_rate=0.003, cap=2.0),
    ),
    "fashion-mnist": Setting(
        train_samples=1500,
        teacher=TeacherSection(
            family="resnet", widths=(16, 32, 64), depths=(1, 1, 1), epochs=8, learning_rate=0.01, stem_stride=4
        ),
        training=TrainingSection(epochs=8, batch_size=64, learning_rate=0.01, inherit_learning_rate=0.003, cap=2.0),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One training: cut, kind of training and seed."""

    ratio: float
    criterion: str
    way: str
    seed: int

    def path(self, out: Path, name: str) -> Path:
        """Path of the result."""
        return out / name / f"{self.seed}" / f"{self.ratio} {self.criterion} {self.way}.json"


def make_context(name: str, out: Path, inherit_rate: float | None) -> TrialContext:
    """Return the data, teacher and device of one comparison; the teacher is stored below `out`."""
    setting = SETTINGS[name]
    dataset = load_dataset(name=name, train_samples=setting.train_samples, shift=None)
    target = OnnxruntimeCpu(LatencyMeter(time_limit_s=0.01, blocks=1))
    context = comparison_context(dataset, setting.teacher, setting.training, folder=out / name, target=target)
    own_rate = {} if inherit_rate is None else {"inherit_learning_rate": inherit_rate}
    return replace(context, training=setting.training.model_copy(update=own_rate))


def cells(seeds: list[int], ratios: list[float], criteria: list[str], ways: list[str]) -> Iterator[Cell]:
    """Return all trainings, seed by seed."""
    for seed in seeds:
        for ratio in ratios:
            for criterion in criteria:
                for way in ways:
                    yield Cell(ratio=ratio, criterion=criterion, way=way, seed=seed)


def train(cell: Cell, context: TrialContext) -> dict[str, float]:
    """Return the figures of one training; a failed trial ends the comparison."""
    init, budget = WAYS[cell.way]
    candidate = Candidate(
        family="resnet",
        depths=context.teacher.depths,
        settings=context.teacher.section.settings,
        pruning_ratio=cell.ratio,
        pruning_criterion=cell.criterion,
        round_to=1,
        init=init,
    )
    own = replace(context, training=context.training.model_copy(update={"budget": budget}))
    with tempfile.TemporaryDirectory() as folder:
        outcome = run_trial(candidate, own, seed=cell.seed, model=Path(folder) / "model.onnx")
    if outcome.measured is None or "accuracy" not in outcome.measured.figures:
        raise SystemExit(f"{cell}: {outcome.state} {outcome.reason}")
    return {
        "accuracy": outcome.measured.figures["accuracy"],
        "parameters": outcome.measured.figures["parameters"],
        "macs": outcome.measured.figures["macs"],
        "epochs": outcome.epochs or 0,
        "seconds": outcome.seconds.get("training", 0.0),
    }


def run(name: str, todo: list[Cell], context: TrialContext, out: Path) -> None:
    """Train the missing shapes."""
    for cell in todo:
        path = cell.path(out, name)
        if path.is_file():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        figures = train(cell, context)
        write_json(path, figures)
        what = f"seed {cell.seed}: {cell.ratio} {cell.criterion} {cell.way}"
        print(f"{what}: {figures['accuracy']:.2%}, {figures['seconds']:.1f} s", file=sys.stderr, flush=True)


def results(name: str, out: Path, cell: Cell, seeds: list[int]) -> list[dict[str, float]]:
    """Return the results, seed by seed."""
    return [json.loads(replace(cell, seed=seed).path(out, name).read_text()) for seed in seeds]


def table(name: str, todo: list[Cell], seeds: list[int], out: Path) -> None:
    """Print the results as CSV; `to scratch_e` is the mean of the paired differences over the seeds."""
    columns = ["data", "ratio", "criterion", "way", "seeds", "mean", "std", "to scratch_e", "std of the difference"]
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([*columns, "parameters", "macs", "epochs"])
    for cell in (cell for cell in todo if cell.seed == seeds[0]):
        writer.writerow([name, cell.ratio, cell.criterion, cell.way, len(seeds), *figures(name, out, cell, seeds)])


def figures(name: str, out: Path, cell: Cell, seeds: list[int]) -> list[str]:
    """Return the numbers of one row; parameters, macs and epochs are means over the seeds."""
    rows, base = (results(name, out, each, seeds) for each in (cell, replace(cell, way="scratch_e")))
    accuracies = [row["accuracy"] for row in rows]
    differences = [row["accuracy"] - other["accuracy"] for row, other in zip(rows, base, strict=True)]
    return [
        *(f"{value:.4f}" for value in _spread(accuracies)),
        *(f"{value:+.4f}" for value in _spread(differences)),
        *(f"{statistics.mean(row[key] for row in rows):.0f}" for key in ("parameters", "macs", "epochs")),
    ]


def _spread(values: list[float]) -> tuple[float, float]:
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def main() -> None:
    """Train, then print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", choices=SETTINGS, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--ratios", type=float, nargs="+", default=list(RATIOS))
    parser.add_argument("--criteria", choices=CRITERIA, nargs="+", default=list(CRITERIA))
    parser.add_argument("--ways", choices=WAYS, nargs="+", default=list(WAYS))
    parser.add_argument("--inherit-rate", type=float, help="learning rate of inherited weights, to choose it")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--table", action="store_true", help="only print the table")
    given: Any = parser.parse_args()
    todo = list(cells(given.seeds, given.ratios, given.criteria, given.ways))
    if not given.table:
        run(given.data, todo, make_context(given.data, given.out, given.inherit_rate), given.out)
    if "scratch_e" in given.ways:
        table(given.data, todo, given.seeds, given.out)


if __name__ == "__main__":
    main()
