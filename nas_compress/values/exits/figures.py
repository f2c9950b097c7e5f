"""Figures of a file with early exits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

STREAM_SAMPLES = 256
"""Samples of the validation split, at equal distances, on which a file with exits is timed one by one."""

FEWEST_SAMPLES = 20
"""Samples of a validation split for a mean latency and a 95th percentile."""


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """Thresholds for one stated loss of accuracy, with their figures on the validation split.

    accuracy_loss: stated loss. thresholds: one per exit, None for no exit. accuracy: by the torch module, on which the
    thresholds were chosen. rates: fraction of the samples per exit, in the file if it was measured, else in the module.
    latency_ms: forecast, the rates times the latency of each exit. changed, stream_ms: see `ExitFigures`. figures: of
    the file with these thresholds, by the names of metrics; empty if they were not measured. confusion: its answers by
    label, see `measurement.confusion`.
    """

    accuracy_loss: float
    thresholds: tuple[float | None, ...]
    accuracy: float
    rates: tuple[float, ...]
    latency_ms: float
    changed: float | None = None
    stream_ms: tuple[float, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict, hash=False)
    confusion: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ExitFigures:
    """Cost of each exit of a file and its use; the end of the network is the last one.

    latency_ms, macs: of a sample that leaves at each exit. rates: fraction of the validation samples per exit; before
    training they are assumed to be equal. thresholds: one per exit before the end, None for no exit; empty before
    training. changed: fraction of the samples with another answer than that of the whole network. stream_ms: mean, 50th
    and 95th percentile over `stream_samples` real samples, empty if not measured. points: other thresholds.

    >>> ExitFigures(latency_ms=(0.1, 0.3), macs=(100, 300), rates=(0.5, 0.5)).expected_macs
    200.0
    """

    latency_ms: tuple[float, ...]
    macs: tuple[int, ...]
    rates: tuple[float, ...]
    thresholds: tuple[float | None, ...] = ()
    changed: float | None = None
    stream_ms: tuple[float, ...] = ()
    stream_samples: int = 0
    points: tuple[OperatingPoint, ...] = ()

    @property
    def expected_ms(self) -> float:
        """Latency of each exit times its rate: the forecast of the mean."""
        return expected(self.latency_ms, self.rates)

    @property
    def expected_macs(self) -> float:
        """Multiply-adds of each exit times its rate."""
        return expected(self.macs, self.rates)

    @property
    def p95_ms(self) -> float:
        """The 95th percentile over the stream, else its forecast."""
        return self.stream_ms[2] if self.stream_ms else forecast_p95(self.latency_ms, self.rates)

    @property
    def assumed(self) -> bool:
        """True before training, while the rates are assumed."""
        return not self.thresholds

    @property
    def other_points(self) -> tuple[tuple[int, OperatingPoint], ...]:
        """The measured points with their numbers, without those that have the thresholds of the file or of another."""
        seen, kept = {self.thresholds}, []
        for number, point in enumerate(self.points):
            if point.figures and point.thresholds not in seen:
                seen.add(point.thresholds)
                kept.append((number, point))
        return tuple(kept)

    def timed(
        self, latency_ms: tuple[float, ...], *, stream_ms: tuple[float, ...] = (), stream_samples: int = 0
    ) -> ExitFigures:
        """Return the figures with other latencies of the exits, also in the forecasts of the operating points.

        stream_ms, stream_samples: of the same measurement, see `ExitFigures`.
        """
        points = tuple(replace(point, latency_ms=expected(latency_ms, point.rates)) for point in self.points)
        return replace(self, latency_ms=latency_ms, points=points, stream_ms=stream_ms, stream_samples=stream_samples)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ExitFigures:
        """Return the figures from the plain values of `dataclasses.asdict`, with lists for tuples."""
        known = {name: _tuples(value) for name, value in values.items() if name != "points"}
        names = [item.name for item in fields(OperatingPoint)]
        points = tuple(
            OperatingPoint(**{name: _tuples(point[name]) for name in names if name in point})
            for point in values.get("points", ())
        )
        return cls(**known, points=points)


def forecast_p95(latency_ms: Sequence[float], rates: Sequence[float]) -> float:
    """Return the latency of the exit that at most 5 % of the samples pass.

    >>> forecast_p95((1.0, 3.0), (0.95, 0.05)), forecast_p95((1.0, 3.0), (0.94, 0.06))
    (1.0, 3.0)
    """
    passed = 0.0
    for latency, rate in zip(latency_ms, rates, strict=True):
        passed += rate
        if passed >= 0.95:
            return latency
    return latency_ms[-1]


def expected(costs: Sequence[float], rates: Sequence[float]) -> float:
    """Return the mean of the costs, weighted by the rates.

    >>> expected((1.0, 3.0), (0.5, 0.5))
    2.0
    """
    return float(sum(cost * rate for cost, rate in zip(costs, rates, strict=True)))


def equal_rates(exits: int) -> tuple[float, ...]:
    """Return the rates assumed before training: each exit and the end take the same share.

    >>> equal_rates(1)
    (0.5, 0.5)
    """
    return (1 / (exits + 1),) * (exits + 1)


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
