"""Stopping rule `dominated`: stop a trial if even an optimistic forecast is dominated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas_compress.errors import RequestError
from nas_compress.stopping.curve import Curve


@dataclass(frozen=True, kw_only=True)
class Dominated:
    """Stop a trial if a finished trial dominates its known costs and an optimistic forecast of its learned cost.

    The forecast assumes the improvement until the end that only a fraction `risk` of the finished trials exceeded.
    risk: bound on the fraction of stopped trials with a better end than their forecast.
    checks: fractions of a full training at which the rule compares.
    at_least: number of finished trials before the first comparison.
    """

    risk: float = 0.05
    checks: tuple[float, ...] = (0.1, 0.2, 0.3, 0.5, 0.7)
    at_least: int = 10

    def __post_init__(self) -> None:
        if not 0 < self.risk <= 0.5:
            raise RequestError(f"0 < risk <= 0.5 must hold, but got risk={self.risk}")
        if not self.checks or not all(0 < check < 1 for check in self.checks):
            raise RequestError(f"checks must be fractions of the training between 0 and 1, but got {self.checks}")

    def wants(self, step: int, planned: int) -> bool:
        """At the checks, and at the end: forecasts need the gain after each check."""
        curve = Curve(known=(), planned=planned)
        return step == planned or any(curve.step_at(check) == step for check in self.checks)

    def verdict(self, newcomer: Curve, others: Sequence[Curve]) -> str | None:
        """Forecast the newcomer's end from the finished trials, and compare it with them."""
        own = newcomer.vector(newcomer.step)
        finished = [curve for curve in others if curve.finished]
        if own is None or newcomer.finished or len(finished) < self.at_least:
            return None
        # Trainings of different lengths are compared at the same fraction.
        check = next((check for check in self.checks if newcomer.step_at(check) == newcomer.step), None)
        if check is None:
            return None
        gains = [gain for curve in finished if (gain := _gain(curve, check)) is not None]
        if len(gains) < self.at_least:
            return None
        forecast = own[0] - float(np.quantile(gains, 1 - self.risk, method="higher"))
        ends = np.array([curve.vector(curve.step) for curve in finished], dtype=np.float64)
        target = np.array([forecast, *newcomer.known])
        beaten = int(((ends <= target).all(axis=1) & (ends < target).any(axis=1)).sum())
        if not beaten:
            return None
        return (
            f"dominated: {beaten} finished trials dominate it even if it improves by {own[0] - forecast:.4g} "
            f"after step {newcomer.step} of {newcomer.planned}"
        )


def _gain(curve: Curve, fraction: float) -> float | None:
    """The improvement of a finished training after this fraction of it.

    None if it was not reported there, or if a cost is not finite: a diverged training says nothing about others.
    """
    then, end = curve.vector(curve.step_at(fraction)), curve.vector(curve.step)
    if then is None or end is None or not (math.isfinite(then[0]) and math.isfinite(end[0])):
        return None
    return then[0] - end[0]
