"""Operating points of a file with early exits: its figures with other thresholds, without another training."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_compress.devices.onnx_session import open_session, read_model
from nas_compress.devices.protocol import Device, Sample
from nas_compress.export.nested_exits import with_thresholds
from nas_compress.files import TEMPORARY
from nas_compress.measurement.confusion import confusion_rows
from nas_compress.measurement.exit_use import exit_rates
from nas_compress.measurement.file_latency import in_figures, over_samples, stream_latency
from nas_compress.measurement.predictions import predict_split
from nas_compress.tasks.batch import Arrays, Batch, to_rows
from nas_compress.tasks.task import Task
from nas_compress.values.device_settings import P95
from nas_compress.values.exits.figures import ExitFigures, OperatingPoint, expected, forecast_p95
from nas_compress.values.exits.settings import EXIT


def measure_points(
    path: Path,
    exits: ExitFigures,
    *,
    task: Task,
    inputs: Batch,
    targets: Arrays,
    whole: NDArray[Any],
) -> ExitFigures:
    """Return the figures with the metrics and rates of the file with the thresholds of each operating point.

    Points with equal thresholds have the figures of the first. The point with the file's own thresholds has none.

    inputs, targets: of the validation split, on the CPU. whole: answers of the whole network, (N,).
    """
    known = dict[tuple[float | None, ...], OperatingPoint]()

    def measured(file: Path, point: OperatingPoint) -> OperatingPoint:
        if point.thresholds not in known:
            known[point.thresholds] = _with_metrics(file, point, exits, task, inputs, targets, whole)
        return replace(known[point.thresholds], accuracy_loss=point.accuracy_loss, accuracy=point.accuracy)

    kept = [point for point in exits.points if point.thresholds != exits.thresholds]
    found = dict(zip(map(id, kept), _with_files(path, kept, measured), strict=True))
    return replace(exits, points=tuple(found.get(id(point), point) for point in exits.points))


def time_points(
    path: Path, exits: ExitFigures, target: Device, samples: Sequence[Sample], *, patient: bool = False
) -> tuple[ExitFigures, bool]:
    """Return the figures with the latencies of the measured points over real samples, and whether one is noisy.

    samples: see `stream_of`. Latencies are forecasts by the rates without samples, or on a device that times none.
    """
    noisy = []

    def timed(file: Path, point: OperatingPoint) -> OperatingPoint:
        found = stream_latency(file, target, samples, patient=patient) if samples else None
        forecast = expected(exits.latency_ms, point.rates)
        if found is None:
            p95_ms = forecast_p95(exits.latency_ms, point.rates)
            figures = {**point.figures, **target.settings.figures(forecast), P95: p95_ms}
            return replace(point, latency_ms=forecast, stream_ms=(), figures=figures)
        each_ms, unsure = found
        noisy.append(unsure)
        mean_ms, stream_ms = over_samples(each_ms, target.settings.percentile), in_figures(each_ms)
        figures = {**point.figures, **target.settings.figures(mean_ms), P95: stream_ms[2]}
        return replace(point, latency_ms=forecast, stream_ms=stream_ms, figures=figures)

    kept = [point for _, point in exits.other_points]
    found = {each.thresholds: each for each in _with_files(path, kept, timed)}
    points = tuple(_timed_like(point, found.get(point.thresholds)) for point in exits.points)
    return replace(exits, points=points), any(noisy)


def thresholds_of(point: OperatingPoint) -> list[float]:
    """Return the thresholds of a point, inf for no exit."""
    return [inf if each is None else each for each in point.thresholds]


def _timed_like(point: OperatingPoint, other: OperatingPoint | None) -> OperatingPoint:
    """Return the point with the latencies of another with the same thresholds."""
    if other is None:
        return point
    return replace(point, latency_ms=other.latency_ms, stream_ms=other.stream_ms, figures=other.figures)


def _with_files(
    path: Path, points: Sequence[OperatingPoint], change: Callable[[Path, OperatingPoint], OperatingPoint]
) -> list[OperatingPoint]:
    """Return each point after `change`, which gets a file with its thresholds."""
    model = read_model(path)
    with tempfile.TemporaryDirectory(prefix=TEMPORARY, dir=path.parent) as folder:
        changed = []
        for number, point in enumerate(points):
            file = Path(folder) / f"point{number}.onnx"
            file.write_bytes(with_thresholds(model, thresholds_of(point)).SerializeToString())
            changed.append(change(file, point))
    return changed


def _with_metrics(
    file: Path,
    point: OperatingPoint,
    exits: ExitFigures,
    task: Task,
    inputs: Batch,
    targets: Arrays,
    whole: NDArray[Any],
) -> OperatingPoint:
    session = open_session(file, signature=task.signature)
    outputs = predict_split(session, task, inputs=to_rows(inputs), targets=targets)
    rates = exit_rates(outputs.pop(EXIT), len(exits.macs))
    changed = float(np.mean(next(iter(outputs.values())).argmax(axis=1) != whole))
    figures = {**task.measure(outputs, targets), "macs": round(expected(exits.macs, rates))}
    confusion = confusion_rows(task, outputs, targets)
    return replace(point, rates=rates, changed=changed, figures=figures, confusion=confusion)
