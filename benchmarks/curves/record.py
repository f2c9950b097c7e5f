"""Train every candidate of `space.py` once, and note its learning curve and the figures of its file.

    python benchmarks/curves/record.py [--processes 2] [--out benchmarks/curves/digits.csv] [--few N]

Latencies are measured first, a file at a time, while nothing trains; they are kept by structure. Then the candidates
are trained beside each other, one thread each, by the code of a trial. A row of the table: the searched parameters,
latency_ms, size_bytes, accuracy of the file, and the accuracy of the torch module after each epoch (`epoch_1`, ...),
all accuracies as the number of right answers on the validation split (of 359 on digits). A second call goes on with
the candidates that the table does not hold.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import multiprocessing
import os
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
NAMES = ("family", "depth_2", "width_multiplier", "pruning_percent", "precision", "teaching")


class Watcher:
    """A judge that looks at every epoch and never speaks."""

    def begin(self, cost: object, planned: int) -> None:
        """Nothing to prepare."""

    def wants(self, epoch: int) -> bool:
        """Every epoch."""
        return True

    def verdict(self, epoch: int, accuracy: float) -> None:
        """Go on."""


class Recorder:
    """The bench of one process."""

    def __init__(self) -> None:
        # imported here: the environment of a process is set before its first import of torch
        import torch

        from nas_compress.measurement.latency import LatencyMeter
        from nas_compress.spec.study_file import read_study
        from nas_compress.study.workbench import find_teacher, gather, make_bench

        torch.set_num_threads(1)
        self.parts = gather(read_study(HERE / "study.toml"))
        teacher = find_teacher(self.parts, lambda name, done, count: None)
        self.bench = make_bench(self.parts, teacher, LatencyMeter())

    def candidate(self, point: tuple[object, ...]) -> object:
        """The candidate of a point."""
        import optuna

        return self.parts.space.suggest(optuna.trial.FixedTrial(dict(zip(NAMES, point, strict=True))))

    def row(self, point: tuple[object, ...]) -> list[object]:
        """Train one candidate and return its row."""
        from nas_compress.trial.run import run_trial

        with tempfile.TemporaryDirectory() as folder:
            model = Path(folder) / "model.onnx"
            outcome = run_trial(self.candidate(point), self.bench, seed=0, model=model, judge=Watcher())
        if outcome.state != "trained":
            raise RuntimeError(f"{point}: {outcome.reason}")
        count = len(self.bench.dataset.validation)
        figures = outcome.measured
        curve = [round(accuracy * count) for _, accuracy in outcome.curve]
        return [*point, f"{figures.latency_ms:.5f}", figures.size_bytes, round(figures.accuracy * count), *curve]

    def time_untrained(self, point: tuple[object, ...]) -> None:
        """Measure the latency of a candidate's file, which the meter keeps."""
        from nas_compress.deployment import Stopwatch, measure_cost, write_file
        from nas_compress.models.families import build_student
        from nas_compress.trial.bench import student_architecture

        candidate = self.candidate(point)
        student = build_student(student_architecture(candidate, self.bench.dataset, self.bench.teacher, seed=0))
        bits = {"weight_bits": candidate.weight_bits, "activation_bits": candidate.activation_bits}
        with tempfile.TemporaryDirectory() as folder:
            path, watch = Path(folder) / "untrained.onnx", Stopwatch()
            write_file(student, path, **bits, calibration=self.bench.calibration, watch=watch)
            measure_cost(student, path, sample=self.bench.calibration, meter=self.bench.meter, watch=watch)


_recorder: Recorder | None = None


def _start() -> None:
    global _recorder
    _recorder = Recorder()


def _time(point: tuple[object, ...]) -> None:
    _recorder.time_untrained(point)


def _row(point: tuple[object, ...]) -> list[object]:
    return _recorder.row(point)


def points() -> list[tuple[object, ...]]:
    """Every point of the space, in an order that mixes cheap and dear ones."""
    import sys

    sys.path.insert(0, str(HERE))
    from space import CHOICES

    every = list(itertools.product(*(CHOICES[name] for name in NAMES)))
    random.Random(0).shuffle(every)
    return every


def known(table: Path) -> set[tuple[str, ...]]:
    """The points that a table holds."""
    if not table.is_file():
        return set()
    with table.open(newline="", encoding="utf-8") as handle:
        return {tuple(row[name] for name in NAMES) for row in csv.DictReader(handle)}


def finished(processes: int, wanted: list[tuple[object, ...]]) -> Iterator[list[object]]:
    """Rows as they come."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(min(4, processes), initializer=_start) as pool:
        pool.map(_time, [point for point in wanted if point[-1] == "kd"], chunksize=1)
    print(f"latencies are kept after {time.monotonic() - STARTED:.0f} s", flush=True)
    with context.Pool(processes, initializer=_start) as pool:
        yield from pool.imap_unordered(_row, wanted, chunksize=1)


STARTED = time.monotonic()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=HERE / "digits.csv")
    parser.add_argument("--few", type=int, help="stop after so many candidates")
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    done = known(given.out)
    wanted = [point for point in points() if tuple(map(str, point)) not in done][: given.few]
    recorder = Recorder()  # trains the teacher and stores its answers, once
    _ = recorder.bench.teacher.answers
    epochs = recorder.parts.spec.training.epochs
    header = [*NAMES, "latency_ms", "size_bytes", "right", *(f"epoch_{epoch}" for epoch in range(1, epochs + 1))]
    with given.out.open("a", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        if not done:
            writer.writerow(header)
        for count, row in enumerate(finished(given.processes, wanted), 1):
            writer.writerow(row)
            handle.flush()
            if count % 32 == 0:
                print(f"{count} of {len(wanted)} after {time.monotonic() - STARTED:.0f} s", flush=True)


if __name__ == "__main__":
    main()
