"""Metrics of named devices: `latency_ms@NAME` and the other timed metrics, one row for each device of a study."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from nas_compress.errors import RequestError, nearest
from nas_compress.values.device_settings import ENERGY
from nas_compress.values.metrics.row import Metric
from nas_compress.values.metrics.table import METRICS

SIGN = "@"
"""Between the name of a timed metric and the name of a device."""


def on_device(metric: str, device: str) -> str:
    """Return the name of a timed metric on a named device.

    >>> on_device("latency_ms", "pi")
    'latency_ms@pi'
    """
    return f"{metric}{SIGN}{device}"


def figures_on(device: str, figures: Mapping[str, float]) -> dict[str, float]:
    """Return the figures of a device under its name."""
    return {on_device(name, device): value for name, value in figures.items()}


def device_rows(devices: Iterable[str]) -> tuple[Metric, ...]:
    """Return the rows of the table of metrics for named devices.

    >>> [metric.label for metric in device_rows(["pi"])]
    ['latency on pi', 'p95 latency on pi', 'throughput on pi']
    """
    timed = [METRICS[name] for name in _timed_elsewhere()]
    return tuple(_row(metric, device) for device in devices for metric in timed)


def require_named(kind: str, name: str, devices: Collection[str]) -> None:
    """Raise RequestError if a metric belongs to a device that the study does not name, or is not timed."""
    metric, sign, device = name.partition(SIGN)
    if not sign:
        return
    timed = _timed_elsewhere()
    if metric not in timed:
        row = METRICS.get(metric)
        further = "" if row is None or row.known_before_training else f"; [tasks.{device}] would add a task"
        raise RequestError(f"{kind} on a device must be {', '.join(timed)}, but got {name!r}{further}")
    if device not in devices:
        known = nearest(device, devices) or f"; add [device.{device or 'NAME'}]"
        raise RequestError(f"{kind} must be on a device that the study names, but got {name!r}{known}")


def _timed_elsewhere() -> list[str]:
    """Return the timed metrics of named devices; energy is counted on the study's own device only."""
    return [row.name for row in METRICS.values() if row.timed and not row.device and row.name != ENERGY]


def _row(metric: Metric, device: str) -> Metric:
    return replace(
        metric,
        name=on_device(metric.name, device),
        summary=metric.summary.replace("the study's device", f"device {device}"),
        label=f"{metric.label} on {device}",
        axis_label=metric.axis_label.replace(metric.label, f"{metric.label} on {device}"),
        device=device,
    )
