"""Measure the files of all searches with one patient meter, and their hypervolume over time."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import numpy as np

from nas_compress.config.study_file import StudyFile
from nas_compress.errors import RequestError
from nas_compress.measurement.graph_key import structure_key
from nas_compress.measurement.predictions import measure_metrics
from nas_compress.runs.front import Front, Point
from nas_compress.search.setup import gather
from nas_compress.tasks.batch import to_arrays
from peers.finds import read_finds

FIGURES = ("seconds", "file", "accuracy", "latency_ms", "noisy", "size_bytes")
OBJECTIVES = {"accuracy", "latency_ms", "size_bytes"}
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#000000", "#e69f00", "#999999")


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One search: (seconds, hypervolume) after each of its files, in temporal order."""

    contender: str
    seed: str
    steps: tuple[tuple[float, float], ...]

    def at(self, seconds: float) -> float:
        """Return the hypervolume after a number of seconds."""
        return max((volume for second, volume in self.steps if second <= seconds), default=0.0)

    def count(self, seconds: float) -> int:
        """Return the number of files finished by then."""
        return sum(second <= seconds for second, _ in self.steps)


def measure_finds(folder: Path, file: StudyFile, *, again: bool) -> list[Point]:
    """Measure the files of a search, stored in its `figures.csv`; repeat noisy latencies if `again`."""
    table = folder / "figures.csv"
    known = {row["file"]: row for row in _rows(table) if row["noisy"] == "False" or not again}
    parts = gather(file)
    images = parts.dataset.validation
    inputs, targets = to_arrays(images.inputs), to_arrays(images.targets)
    rows = []
    for seconds, path in read_finds(folder):
        name = str(path.relative_to(folder))
        if name not in known:
            latency = parts.target.latency(path, key=structure_key(path), patient=True)
            metrics = measure_metrics(path, parts.dataset.task, inputs=inputs, targets=targets)
            values = (seconds, name, metrics["accuracy"], latency.latency_ms, latency.noisy, path.stat().st_size)
            known[name] = {key: str(value) for key, value in zip(FIGURES, values, strict=True)}
        rows.append(known[name])
    _write(table, FIGURES, [[row[name] for name in FIGURES] for row in rows])
    return [_point(row["file"], row) for row in rows]


def count_noisy(folders: Sequence[Path]) -> tuple[int, int]:
    """Return the number of files with a noisy latency, and of all files."""
    noisy = [row["noisy"] == "True" for folder in folders for row in _rows(folder / "figures.csv")]
    return sum(noisy), len(noisy)


def measure_teacher(folder: Path, file: StudyFile) -> Point:
    """Measure the teacher with the same meter, as the reference of the hypervolume."""
    parts = gather(file)
    path, images = folder / "model.onnx", parts.dataset.validation
    latency = parts.target.latency(path, key=structure_key(path), patient=True)
    metrics = measure_metrics(
        path, parts.dataset.task, inputs=to_arrays(images.inputs), targets=to_arrays(images.targets)
    )
    values = {"accuracy": metrics["accuracy"], "latency_ms": latency.latency_ms, "size_bytes": path.stat().st_size}
    return _point("teacher", {name: str(value) for name, value in values.items()})


def curve_of(folder: Path, file: StudyFile, teacher: Point, *, clock: str, again: bool) -> Curve:
    """Return the curve of the search in a folder `<contender>-<seed>`, by a clock of `finds.CLOCKS`."""
    if set(file.spec.objectives) != OBJECTIVES:
        raise RequestError(f"objectives must be {sorted(OBJECTIVES)} here, but got {list(file.spec.objectives)}")
    points = {Path(str(point.trial)): point for point in measure_finds(folder, file, again=again)}
    finds = read_finds(folder, clock)
    front = Front(
        objectives=file.spec.objective_list,
        points=tuple(points.values()),
        classes=gather(file).dataset.task.classes,
        teacher=teacher,
    )
    volumes = front.hypervolume_history([points[path.relative_to(folder)] for _, path in finds]).tolist()
    contender, _, seed = folder.name.rpartition("-")
    times = [seconds for seconds, _ in finds]
    return Curve(contender=contender, seed=seed, steps=tuple(zip(times, volumes, strict=True)))


def write_curves(curves: Sequence[Curve], path: Path) -> None:
    """Write a row for each file of each search."""
    rows = [(c.contender, c.seed, f"{second:.1f}", f"{volume:.5f}") for c in curves for second, volume in c.steps]
    _write(path, ("search", "seed", "seconds", "hypervolume"), rows)


def print_table(curves: Sequence[Curve], seconds: float) -> None:
    """Print the median, smallest and largest volume of the seeds at fractions of the time."""
    parts = {"1/8": 0.125, "1/4": 0.25, "1/2": 0.5, "1/1": 1.0}
    print("| search | seeds | files | " + " | ".join(f"{seconds * part:g} s" for part in parts.values()) + " |")
    print("|---" * (3 + len(parts)) + "|")
    for name, seeds in _by_contender(curves).items():
        counts = [curve.count(seconds) for curve in seeds]
        cells = [_spread([curve.at(seconds * part) for curve in seeds]) for part in parts.values()]
        print(f"| {name} | {len(seeds)} | {min(counts)}-{max(counts)} | " + " | ".join(cells) + " |")


def draw(curves: Sequence[Curve], seconds: float, path: Path, *, clock: str) -> None:
    """Draw the median of the seeds at each second, and their range as a band."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    times = np.linspace(0, seconds, 481)
    for colour, (name, seeds) in zip(cycle(COLOURS), _by_contender(curves).items(), strict=False):
        table = np.array([[curve.at(second) for second in times] for curve in seeds])
        axes.step(times, np.median(table, axis=0), where="post", label=name, color=colour)
        axes.fill_between(times, table.min(axis=0), table.max(axis=0), step="post", color=colour, alpha=0.15, lw=0)
    axes.set(xlabel=f"seconds ({clock} time)", ylabel="hypervolume", xlim=(0, seconds), ylim=(0, None))
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _by_contender(curves: Sequence[Curve]) -> dict[str, list[Curve]]:
    return {name: [c for c in curves if c.contender == name] for name in dict.fromkeys(c.contender for c in curves)}


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.3f} [{min(values):.3f}-{max(values):.3f}]"


def _point(trial: str, row: Mapping[str, str]) -> Point:
    """Return a point of the three figures, without those of the torch module."""
    return Point(
        trial=trial,
        figures={
            "accuracy": float(row["accuracy"]),
            "latency_ms": float(row["latency_ms"]),
            "size_bytes": int(row["size_bytes"]),
            "parameters": 1,
            "macs": 1,
        },
    )


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def _write(path: Path, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
