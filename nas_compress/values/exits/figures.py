"""Figures of a file with early exits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """Thresholds for one stated loss of accuracy, and their figures on the validation split, by the torch module.

    accuracy_loss: stated loss. thresholds: one per exit, None for no exit. rates: fraction of the samples per exit.
    latency_ms: rates times the latency of each exit.
    """

    accuracy_loss: float
    thresholds: tuple[float | None, ...]
    accuracy: float
    rates: tuple[float, ...]
    latency_ms: float


@dataclass(frozen=True, kw_only=True)
class ExitFigures:
    """Cost of each exit of a file and its use; the end of the network is the last one.

    latency_ms, macs: of a sample that leaves at each exit. rates: fraction of the validation samples per exit; before
    training they are assumed to be equal. thresholds: one per exit before the end, None for no exit; empty before
    training. changed: fraction of the samples with another answer than that of the whole network. stream_ms: mean, 50th
    and 95th percentile over runs of real validation samples, empty if not measured. points: other thresholds.

    >>> ExitFigures(latency_ms=(0.1, 0.3), macs=(100, 300), rates=(0.5, 0.5)).expected_macs
    200.0
    """

    latency_ms: tuple[float, ...]
    macs: tuple[int, ...]
    rates: tuple[float, ...]
    thresholds: tuple[float | None, ...] = ()
    changed: float | None = None
    stream_ms: tuple[float, ...] = ()
    points: tuple[OperatingPoint, ...] = ()

    @property
    def expected_ms(self) -> float:
        """Latency of each exit times its rate."""
        return expected(self.latency_ms, self.rates)

    @property
    def expected_macs(self) -> float:
        """Multiply-adds of each exit times its rate."""
        return expected(self.macs, self.rates)

    @property
    def p95_ms(self) -> float:
        """Latency of the exit that at most 5 % of the samples pass."""
        passed = 0.0
        for latency, rate in zip(self.latency_ms, self.rates, strict=True):
            passed += rate
            if passed >= 0.95:
                return latency
        return self.latency_ms[-1]

    def timed(self, latency_ms: tuple[float, ...]) -> ExitFigures:
        """Return the figures with other latencies of the exits, also in the operating points."""
        points = tuple(replace(point, latency_ms=expected(latency_ms, point.rates)) for point in self.points)
        return replace(self, latency_ms=latency_ms, points=points)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ExitFigures:
        """Return the figures from the plain values of `dataclasses.asdict`, with lists for tuples."""
        known = {name: _tuples(value) for name, value in values.items() if name != "points"}
        names = [item.name for item in fields(OperatingPoint)]
        points = tuple(
            OperatingPoint(**{name: _tuples(point[name]) for name in names}) for point in values.get("points", ())
        )
        return cls(**known, points=points)


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
