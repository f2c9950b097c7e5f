"""Stop a trial that even a lucky end of its training would leave behind the front."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas_compress.errors import RequestError
from nas_compress.stopping.curve import Curve


@dataclass(frozen=True, kw_only=True)
class Dominated:
    """Stop where some finished trial dominates the known costs together with an optimistic forecast of the learned one.

    The forecast takes the improvement from this step to the end that only a fraction `risk` of the finished trials
    exceeded, so `risk` bounds how often a trial is stopped whose end would have beaten its forecast. It looks at the
    `looks` (fractions of the full training) once `at_least` trials are finished.
    """

    risk: float = 0.05
    looks: tuple[float, ...] = (0.1, 0.2, 0.3, 0.5, 0.7)
    at_least: int = 10

    def __post_init__(self) -> None:
        if not 0 < self.risk <= 0.5:
            raise RequestError(f"0 < risk <= 0.5 must hold, but got risk={self.risk}")
        if not self.looks or not all(0 < look < 1 for look in self.looks):
            raise RequestError(f"looks must be fractions of the training between 0 and 1, but got {self.looks}")

    def wants(self, step: int, planned: int) -> bool:
        """At the looks, and at the end, from which later trials learn how much the rest of a training brings."""
        curve = Curve(known=(), planned=planned)
        return step == planned or any(curve.step_at(look) == step for look in self.looks)

    def verdict(self, newcomer: Curve, others: Sequence[Curve]) -> str | None:
        """Forecast the newcomer's end from the finished trials, and hold it against them."""
        own = newcomer.vector(newcomer.step)
        finished = [curve for curve in others if curve.finished]
        if own is None or newcomer.finished or len(finished) < self.at_least:
            return None
        # each training looked at the step that is nearest to the look, whatever its length
        look = next((look for look in self.looks if newcomer.step_at(look) == newcomer.step), None)
        if look is None:
            return None
        gains = [gain for curve in finished if (gain := _gain(curve, look)) is not None]
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
    """What the rest of a finished training brought after this fraction of it.

    None where nobody looked then, or a cost was no number: a training that diverged tells nothing of the others.
    """
    then, end = curve.vector(curve.step_at(fraction)), curve.vector(curve.step)
    if then is None or end is None or not (math.isfinite(then[0]) and math.isfinite(end[0])):
        return None
    return then[0] - end[0]
