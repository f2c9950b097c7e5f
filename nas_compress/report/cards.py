"""The values of one front member on the report page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nas_compress.devices.onnx_session import read_content
from nas_compress.errors import RequestError
from nas_compress.measurement.confusion import MOST_CLASSES, Counts, read_rows
from nas_compress.measurement.file_contents import stored_layers
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.inherited_weights import origin_of
from nas_compress.runs.records import Record, at_exit_point
from nas_compress.runs.results import byte_steps
from nas_compress.runs.speed_notes import speed_notes
from nas_compress.values.device_settings import P95
from nas_compress.values.exits.figures import ExitFigures
from nas_compress.values.front_point import Point
from nas_compress.values.metrics.table import METRICS, in_words
from nas_compress.values.outcome import Measured

WIDEST_MATRIX = 20
"""Largest number of classes for a whole matrix; with more, the most frequent confusions are listed."""

MOST_CONFUSIONS = 10

MOST_COMPRESSED = 20
"""Members with a compressed size as last step; compression takes 0.25 s each."""


def card(folder: RunFolder, record: Record, point: Point, *, coded: bool = True) -> dict[str, Any]:
    """The values of one card: figures, notes, layers, losses, bytes by layer and step, confusion.

    The headline and the confusion are those of the point; the others are those of the trial's own thresholds.

    coded: whether to compress an uncompressed file for its last step.
    """
    outcome = record.outcome
    return {
        "trial": record.trial,
        "point": point,
        "measured": outcome.measured,
        "words": in_words(point.figures, METRICS),
        "speed": "\n".join(speed_notes([record], [record.trial])),
        "weights": origin_of(outcome.candidate),
        "whole_layers": outcome.whole_layers,
        "integer_latency_ms": outcome.integer_latency_ms,
        "candidate": outcome.candidate,
        "number_format": outcome.number_format,
        "architecture": outcome.architecture,
        "epochs": outcome.epochs,
        "epochs_spent": outcome.epochs_spent,
        "losses": dict(outcome.losses),
        "seconds": dict(outcome.seconds),
        "params": dict(record.params),
        "exits": _exits(outcome.measured),
        "model": record.model,
        "curve": _curve(outcome.curve),
        "stored": _stored(folder, record),
        "steps": byte_steps(folder, record, coded=coded),
        "confusion": confusion(at_exit_point(record, point.exit_point).outcome.measured),
    }


def _exits(measured: Measured | None) -> dict[str, Any] | None:
    """The exits of a network with their costs, and its exit points; None without exits."""
    exits = None if measured is None else measured.exits
    if exits is None:
        return None
    own = zip(exits.rates, exits.latency_ms, exits.macs, strict=True)
    return {"figures": exits, "each": list(own), "points": exits.other_points, "curve": _exit_curve(measured, exits)}


def _exit_curve(measured: Measured | None, exits: ExitFigures) -> dict[str, Any] | None:
    """Accuracy against mean latency as an SVG path in a box of 100 by 100, with bars to the 95th percentiles."""
    figures = [point.figures for _, point in exits.other_points] + ([measured.figures] if measured else [])
    wanted = ("latency_ms", P95, "accuracy")
    places = sorted(tuple(each[name] for name in wanted) for each in figures if all(name in each for name in wanted))
    if len(places) < 2:
        return None
    left, right = min(place[0] for place in places), max(place[1] for place in places)
    low, high = min(place[2] for place in places), max(place[2] for place in places)

    def across(value: float) -> str:
        return f"{100 * (value - left) / ((right - left) or 1.0):.1f}"

    drawn = [
        (across(mean), across(p95), f"{100 - 100 * (y - low) / ((high - low) or 1.0):.1f}") for mean, p95, y in places
    ]
    path = "M" + " L".join(f"{x} {y}" for x, _, y in drawn)
    return {"path": path, "points": drawn, "left": left, "right": right, "low": low, "high": high}


def confusion(measured: Measured | None) -> dict[str, Any] | None:
    """The recorded confusion counts of a file; None if its record has none."""
    counts = None if measured is None else read_rows(measured.confusion)
    return None if counts is None else _confusion(counts)


def missing_confusion(classes: int | None, without: Sequence[str]) -> str:
    """Give the reason for missing matrices, empty if none is missing.

    classes: of the task. without: names of the measured files without counts.
    """
    if not without:
        return ""
    if classes is None:
        return "the task has no classes"
    if classes > MOST_CLASSES:
        return f"records have them for at most {MOST_CLASSES} classes, and the task has {classes}"
    return f"none in {len(without)} records of an earlier version, such as that of {without[0]}"


def _curve(points: Sequence[tuple[int, float]]) -> dict[str, Any] | None:
    """The learning curve as an SVG path in a box of 100 by 100, with its ends; None for fewer than two points."""
    if len(points) < 2:
        return None
    epochs, accuracies = zip(*points, strict=True)
    across, low, high = max(epochs) - min(epochs), min(accuracies), max(accuracies)
    places = [
        f"{100 * (epoch - epochs[0]) / across:.1f} {100 - 100 * (accuracy - low) / ((high - low) or 1.0):.1f}"
        for epoch, accuracy in points
    ]
    return {"path": "M" + " L".join(places), "first": epochs[0], "last": epochs[-1], "low": low, "high": high}


def _stored(folder: RunFolder, record: Record) -> dict[str, Any] | None:
    path = folder.root / record.model
    try:
        layers = stored_layers(path)
    except (RequestError, OSError):
        return None
    total, shipped = len(read_content(path)), path.stat().st_size
    graph = total - sum(layer.size_bytes for layer in layers)
    most = max([graph, *(layer.size_bytes for layer in layers)])
    return {"layers": layers, "graph": graph, "total": total, "most": most, "shipped": shipped}


def _confusion(counts: Counts) -> dict[str, Any]:
    """The matrix with the share of each cell in its row; for many classes, the most frequent mistakes."""
    right, total = int(counts.trace()), int(counts.sum())
    values: dict[str, Any] = {"right": right, "total": total, "rows": None, "pairs": _mistakes(counts)}
    if len(counts) <= WIDEST_MATRIX:
        rows = counts.sum(axis=1).clip(min=1)
        values["rows"] = [
            [(int(count), float(count / row)) for count in line] for line, row in zip(counts, rows, strict=True)
        ]
    return values


def _mistakes(counts: Counts) -> list[tuple[int, int, int]]:
    """(label, answer, count) of the most frequent mistakes."""
    pairs = [
        (label, answer, int(count))
        for label, line in enumerate(counts)
        for answer, count in enumerate(line)
        if label != answer and count
    ]
    return sorted(pairs, key=lambda pair: -pair[2])[:MOST_CONFUSIONS]
