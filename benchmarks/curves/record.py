"""Train every candidate of a space once; record its learning curve and the figures of its file.

    python benchmarks/curves/record.py digits|fashion-mnist [--processes 2] [--few N]

The study is `<table>.toml`, the table `<table>.csv`. Candidates train in parallel, one thread each, with the code of a
trial. Training is deterministic, so a table may grow over several calls. A row has the searched parameters, latency_ms,
size_bytes, the accuracy of the file, and that of the torch module after each epoch (`epoch_1`, ...). Accuracies are the
number of correct answers of `validation` samples.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import itertools
import math
import multiprocessing
import os
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas_compress.callbacks import no_progress
from nas_compress.values.candidate import Candidate

HERE = Path(__file__).parent
NAMES = ("family", "depth_2", "width_multiplier", "pruning_percent", "precision", "teaching")
SPACES = {"digits": "space.py", "fashion-mnist": "strided_space.py"}
"""The tables and their spaces."""

Point = tuple[Any, ...]


class Watcher:
    """A stopper that is asked after every epoch and never stops."""

    def begin(self, cost: object, planned: int) -> None:
        """Prepare nothing."""

    def wants(self, epoch: int) -> bool:
        """Return True for every epoch."""
        return True

    def stop_reason(self, epoch: int, accuracy: float) -> None:
        """Continue."""


class Recorder:
    """The context of one process."""

    def __init__(self, table: str) -> None:
        # imported here: the environment of a process is set before its first import of torch
        import torch

        from nas_compress.config.study_file import read_study
        from nas_compress.search.setup import find_teacher, gather, make_context

        torch.set_num_threads(1)
        self.parts = gather(read_study(HERE / f"{table}.toml"))
        teacher = find_teacher(self.parts, no_progress)
        self.context = make_context(self.parts, teacher)

    def candidate(self, point: Point) -> Candidate:
        """Return the candidate of a point."""
        import optuna

        return self.parts.space.suggest(optuna.trial.FixedTrial(dict(zip(NAMES, point, strict=True))))

    def row(self, point: Point) -> list[object]:
        """Train one candidate and return its row."""
        from nas_compress.trial.run import run_trial

        with tempfile.TemporaryDirectory() as folder:
            model = Path(folder) / "model.onnx"
            outcome = run_trial(self.candidate(point), self.context, seed=0, model=model, stopper=Watcher())
        measured = outcome.measured
        if outcome.state != "trained" or measured is None or "accuracy" not in measured.figures:
            raise RuntimeError(f"{point}: {outcome.reason}")
        count = len(self.context.dataset.validation)
        curve = [round(accuracy * count) for _, accuracy in outcome.curve]
        right = round(measured.figures["accuracy"] * count)
        return [*point, f"{measured.figures['latency_ms']:.5f}", measured.figures["size_bytes"], count, right, *curve]


_recorder: Recorder | None = None


def _start(table: str) -> None:
    global _recorder
    _recorder = Recorder(table)


def _row(point: Point) -> list[object]:
    if _recorder is None:
        raise RuntimeError("a process begins with _start")
    return _recorder.row(point)


def points(table: str) -> list[Point]:
    """Return every point of the space of a table, cheap and expensive ones mixed."""
    spec = importlib.util.spec_from_file_location(table.replace("-", "_"), HERE / SPACES[table])
    if spec is None or spec.loader is None:
        raise RuntimeError(f"{SPACES[table]} is no module")
    space = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(space)
    every = list(itertools.product(*(space.CHOICES[name] for name in NAMES)))
    random.Random(0).shuffle(every)
    return every


def rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a table."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def train(table: str, path: Path, *, processes: int, few: int | None) -> None:
    """Add the missing rows to the table."""
    done = {tuple(row[name] for name in NAMES) for row in rows(path)}
    wanted = [point for point in points(table) if tuple(map(str, point)) not in done][:few]
    recorder = Recorder(table)  # trains the teacher and stores its answers, once
    _ = recorder.context.teacher.answers
    epochs = range(1, recorder.parts.spec.training.epochs + 1)
    started = time.monotonic()
    with path.open("a", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        if not done:
            header = [*NAMES, "latency_ms", "size_bytes", "validation", "right"]
            writer.writerow([*header, *(f"epoch_{epoch}" for epoch in epochs)])
        for count, row in enumerate(_trained(table, wanted, processes), 1):
            writer.writerow(row)
            handle.flush()
            if count % 16 == 0:
                print(f"{count} of {len(wanted)} after {time.monotonic() - started:.0f} s", flush=True)


def _trained(table: str, wanted: list[Point], processes: int) -> Iterator[list[object]]:
    """Yield rows as they are finished."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes, initializer=_start, initargs=(table,)) as pool:
        yield from pool.imap_unordered(_row, wanted, chunksize=1)


def settle_latencies(path: Path) -> None:
    """Give rows that differ in teaching only the smallest latency measured for their structure."""
    known = rows(path)
    least: dict[tuple[str, ...], float] = {}
    for row in known:
        structure = tuple(row[name] for name in NAMES if name != "teaching")
        least[structure] = min(float(row["latency_ms"]), least.get(structure, math.inf))
    for row in known:
        row["latency_ms"] = f"{least[tuple(row[name] for name in NAMES if name != 'teaching')]:.5f}"
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(known[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(known, key=lambda row: [row[name] for name in NAMES]))
    Path(handle.name).chmod(0o644)
    Path(handle.name).replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("table", choices=SPACES)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--few", type=int, help="stop after so many candidates")
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    path = HERE / f"{given.table}.csv"
    train(given.table, path, processes=given.processes, few=given.few)
    settle_latencies(path)


if __name__ == "__main__":
    main()
