"""The axis of a metric: range, scale and ticks."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, isnan, log10
from statistics import median

from matplotlib.axis import XAxis, YAxis
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from nas_compress.plots.front_protocol import DrawnFront
from nas_compress.values.device_settings import P95
from nas_compress.values.metrics.table import METRICS

_STEPS = ((1, 1.5, 2, 3, 4, 5, 6, 8), (1, 1.5, 2, 3, 5, 7), (1, 2, 3, 5), (1, 2, 5), (1, 3), (1,))


def limits(front: DrawnFront, name: str) -> tuple[float, float]:
    """The range of an axis with a margin. A maximised metric is cut off far below the front."""
    if METRICS[name].log_scale:
        return _log_limits(front, name)
    return _cut_limits(front, name) if METRICS[name].direction == "maximize" else _whole_limits(front, name)


def dress(axis: XAxis | YAxis, name: str, low: float, high: float) -> None:
    """Set scale, range and a readable number of ticks."""
    axes, metric = axis.axes, METRICS[name]
    scale = "log" if metric.log_scale else "linear"
    if isinstance(axis, YAxis):
        axes.set(yscale=scale, ylim=(low, high))
    else:
        axes.set(xscale=scale, xlim=(low, high))
    if not metric.log_scale:
        end = metric.bounds[1] + 0.0001
        axis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]))
        axis.set_major_formatter(FuncFormatter(lambda value, _: tick(name, value) if value < end else ""))
        return
    axis.set_major_locator(FixedLocator(log_ticks(low, high, most=_room(axis, name))))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: tick(name, value)))


def _room(axis: XAxis | YAxis, name: str) -> int:
    """Number of ticks with room for their labels: about 45 points for `100 kB`, 30 for a number."""
    if isinstance(axis, YAxis):
        return 6
    width = axis.axes.bbox.width * 72 / axis.axes.figure.dpi
    return max(2, min(8, int(width / (45 if METRICS[name].notation == "prefix" else 30))))


def log_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round values between low and high, at most `most` (2 or more).

    >>> log_ticks(4_000, 2_000_000)
    [10000.0, 30000.0, 100000.0, 300000.0, 1000000.0]
    """
    for steps in _STEPS:
        ticks = _decade_ticks(steps, low, high)
        if len(ticks) < 2:  # a narrow range, where a log axis is nearly linear
            even = MaxNLocator(nbins=most, steps=[1, 2, 5, 10]).tick_values(low, high)
            return [float(tick) for tick in even if low <= tick <= high][:most]
        if len(ticks) <= most:
            return ticks
    return ticks[:: -(-len(ticks) // most)]


def _decade_ticks(steps: Sequence[float], low: float, high: float) -> list[float]:
    exponents = range(floor(log10(low)), floor(log10(high)) + 1)
    ticks = [float(f"{step}e{exponent}") for exponent in exponents for step in steps]
    return [tick for tick in ticks if low <= tick <= high]


def tick(name: str, value: float) -> str:
    """The label of a tick. The axis label has the unit, except for prefixed units such as kB."""
    match METRICS[name].notation:
        case "percent":
            return f"{100 * value:.4g}"
        case "plain":
            return f"{value:g}"
        case "prefix":
            return METRICS[name].shown(value)


def _figures(front: DrawnFront, name: str) -> list[float]:
    points = front.points + ((front.teacher,) if front.teacher else ())
    tails = [point.figure(P95) for point in front.members if point.early_exits and name == "latency_ms"]
    return _known([*(point.figure(name) for point in points), *tails])


def _known(values: Sequence[float]) -> list[float]:
    return [value for value in values if not isnan(value)]


def _cut_limits(front: DrawnFront, name: str) -> tuple[float, float]:
    """Down to the weakest member, but at most four times as far from the best as the median member."""
    crowd = front.members if len(front.objectives) > 1 else front.members + front.dominated
    values = sorted(_known([point.figure(name) for point in crowd]))
    values = values or sorted(_figures(front, name)) or [0.0, 1.0]
    taught = _known([front.teacher.figure(name)]) if front.teacher else []
    top = max(values + taught)
    low = min([max(values[0], median(values) - 3 * (top - median(values))), top - 0.02, *taught])
    margin = 0.1 * (top - low)
    worst, best = METRICS[name].bounds
    return max(low - margin, worst - margin), min(top + 1.5 * margin, best + 0.5 * margin)


def _whole_limits(front: DrawnFront, name: str) -> tuple[float, float]:
    values = _figures(front, name) or [0.0, 1.0]
    margin = 0.1 * ((max(values) - min(values)) or 1.0)
    return min(values) - margin, max(values) + margin


def _log_limits(front: DrawnFront, name: str) -> tuple[float, float]:
    values = _figures(front, name) or [1.0, 10.0]
    low, high = min(values), max(values)
    near = [b.limit for b in front.budgets if b.name == name and low / 2 <= b.limit <= high * 2]
    low, high = min([low, *near]), max([high, *near])
    margin = max((high / low) ** 0.14, 1.15 if high > 2 * low else 1.6)
    return low / margin, high * margin
