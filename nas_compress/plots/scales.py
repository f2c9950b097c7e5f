"""How each figure stands on an axis: its words, its unit, its range and its ticks."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, isnan, log10
from statistics import median

from matplotlib.axis import XAxis, YAxis
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from nas_compress.plots.front_protocol import DrawnFront

WORDS = {
    "accuracy": "accuracy (%)",
    "latency_ms": "latency (ms, batch of 1)",
    "size_bytes": "file size",
    "parameters": "parameters",
    "macs": "multiply-adds",
}
"""What an axis calls a figure."""

PLAIN = {name: words.split(" (")[0] for name, words in WORDS.items()}
"""What a sentence calls a figure: its words without a unit."""

_STEPS = ((1, 1.5, 2, 3, 4, 5, 6, 8), (1, 1.5, 2, 3, 5, 7), (1, 2, 3, 5), (1, 2, 5), (1, 3), (1,))


def shown(name: str, value: float) -> str:
    """A figure for people: `98.6 %`, `0.25 ms`, `1.2 MB` (1 kB is 1000 bytes), `61 k`."""
    if name == "accuracy":
        return f"{100 * value:.4g} %"
    if name == "latency_ms":
        return f"{value:.3g} ms"
    return _shortened(value, "B" if name == "size_bytes" else "")


def limits(front: DrawnFront, name: str) -> tuple[float, float]:
    """The range of an axis: all that matters, with a margin; accuracies far below the front fall outside."""
    return _accuracy_limits(front) if name == "accuracy" else _cost_limits(front, name)


def dress(axis: XAxis | YAxis, name: str, low: float, high: float) -> None:
    """Give an axis its scale, its range and as many ticks as can be read."""
    axes, scale = axis.axes, "linear" if name == "accuracy" else "log"
    if isinstance(axis, YAxis):
        axes.set(yscale=scale, ylim=(low, high))
    else:
        axes.set(xscale=scale, xlim=(low, high))
    if name == "accuracy":
        axis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g}" if value < 1.0001 else ""))
        return
    axis.set_major_locator(FixedLocator(log_ticks(low, high, most=_room(axis, name))))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: _tick(name, value)))


def _room(axis: XAxis | YAxis, name: str) -> int:
    """How many ticks find room: side by side a word such as `100 kB` needs some 45 points, a number 30."""
    if isinstance(axis, YAxis):
        return 6
    width = axis.axes.bbox.width * 72 / axis.axes.figure.dpi
    return max(2, min(8, int(width / (30 if name == "latency_ms" else 45))))


def log_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round values between low and high: as many as may be, but no more than `most` (2 or more).

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


def _tick(name: str, value: float) -> str:
    return f"{value:g}" if name == "latency_ms" else shown(name, value)


def _shortened(value: float, unit: str) -> str:
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * factor:
            return f"{value / factor:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}".strip()


def _figures(front: DrawnFront, name: str) -> list[float]:
    points = front.points + ((front.teacher,) if front.teacher else ())
    return [value for value in (point.figure(name) for point in points) if not isnan(value)]


def _accuracy_limits(front: DrawnFront) -> tuple[float, float]:
    """Down to the weakest member, but no further from the best than four times the median member is."""
    crowd = front.members if len(front.objectives) > 1 else front.members + front.dominated
    values = sorted(point.accuracy for point in crowd if not isnan(point.accuracy))
    values = values or sorted(_figures(front, "accuracy")) or [0.0, 1.0]
    taught = [front.teacher.accuracy] if front.teacher else []
    top = max(values + taught)
    low = min([max(values[0], median(values) - 3 * (top - median(values))), top - 0.02, *taught])
    margin = 0.1 * (top - low)
    return max(low - margin, -margin), min(top + 1.5 * margin, 1 + 0.5 * margin)


def _cost_limits(front: DrawnFront, name: str) -> tuple[float, float]:
    values = _figures(front, name) or [1.0, 10.0]
    low, high = min(values), max(values)
    near = [b.limit for b in front.budgets if b.name == name and low / 2 <= b.limit <= high * 2]
    low, high = min([low, *near]), max([high, *near])
    margin = max((high / low) ** 0.14, 1.15 if high > 2 * low else 1.6)
    return low / margin, high * margin
