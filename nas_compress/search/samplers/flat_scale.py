"""A scale on which the poor half of the candidates lies close together, for models of the accuracy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from nas_compress.values.pareto import Floats

FEWEST = 30
"""Smallest number of values that define a scale. With fewer, models of recorded tables were no better for it."""

OUTLIERS = 3.0
"""Distance of the worst cost that counts, in distances of the worst cost from the median on the scale."""

LEAST = 0.02
"""Smallest spread, as a fraction of the extent of all costs."""

_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(9)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()

SPREAD = 6.0
"""Deviations of a normal figure, beyond which nothing is expected."""

_PARTS, _SHARES = np.polynomial.legendre.leggauss(12)
_PARTS, _SHARES = (_PARTS + 1) / 2, _SHARES / 2


def normal_room(limits: Floats, mean: Floats, deviation: Floats) -> Floats:
    """Return the expected length from a normal figure up to each limit: E[max(0, limit - figure)]."""
    away = (limits - mean) / deviation
    return np.asarray(deviation * (away * ndtr(away) + np.exp(-0.5 * away**2) / np.sqrt(2 * np.pi)), dtype=np.float64)


@dataclass(frozen=True, kw_only=True)
class FlatScale:
    """Costs up to the median as they are, larger ones by the logarithm of their distance from it.

    Otherwise a few students that learn nothing decide how smooth a Gaussian process takes the accuracy to be. The
    better half keeps its distances.
    middle: the median. spread: root of the mean squared distance of the better half from it. worst: the largest cost.
    """

    middle: float
    spread: float
    worst: float

    def flat(self, costs: Floats) -> Floats:
        """Return the places of costs on the scale."""
        away = np.maximum(costs - self.middle, 0.0)
        return np.asarray(np.minimum(costs, self.middle) + self.spread * np.log1p(away / self.spread), dtype=np.float64)

    def slopes(self, costs: Floats) -> Floats:
        """Return the derivative of `flat`."""
        return np.asarray(1 / (1 + np.maximum(costs - self.middle, 0.0) / self.spread), dtype=np.float64)

    def costs(self, places: Floats) -> Floats:
        """Return the costs at places on the scale, at most the worst one."""
        away = np.minimum(np.maximum(places - self.middle, 0.0) / self.spread, self._farthest)
        return np.asarray(np.minimum(places, self.middle) + self.spread * np.expm1(away), dtype=np.float64)

    def moments(self, means: Floats, deviations: Floats) -> tuple[Floats, Floats]:
        """Return mean and standard deviation (n,) of the cost, for normal places on the scale (n,)."""
        costs = self.costs(means[:, None] + deviations[:, None] * _NODES)
        expected = costs @ _WEIGHTS
        squares = (costs - expected[:, None]) ** 2 @ _WEIGHTS
        return np.asarray(expected, dtype=np.float64), np.asarray(np.sqrt(squares), dtype=np.float64)

    def room(self, limits: Floats, means: Floats, deviations: Floats) -> Floats:
        """Return the expected length (n, e) from the cost up to each limit (e,), for normal places on the scale (n,).

        Up to the median, where the scale keeps distances, it is that of a normal figure. Beyond it, the expectation of
        max(0, limit - cost) grows by the probability that the cost is smaller: an integral over the scale.
        """
        means, deviations = means[:, None], deviations[:, None]
        ends = self.flat(np.minimum(limits, self.worst))
        linear = normal_room(np.minimum(ends, self.middle), means, deviations)
        # outside of SPREAD deviations the probability is 0 or 1
        ends = np.maximum(ends, self.middle)
        low, high = (np.clip(means + sign * SPREAD * deviations, self.middle, ends) for sign in (-1, 1))
        places = low[..., None] + (high - low)[..., None] * _PARTS
        below = ndtr((places - means[..., None]) / deviations[..., None])
        beyond = (below * np.exp((places - self.middle) / self.spread)) @ _SHARES * (high - low)
        beyond += self.spread * (
            np.exp((ends - self.middle) / self.spread) - np.exp((high - self.middle) / self.spread)
        )
        return np.asarray(linear + beyond + np.maximum(limits - self.worst, 0.0), dtype=np.float64)

    def in_unit(self, best: float, extent: float) -> FlatScale:
        """Return the scale of costs whose best is 0 and whose extent is 1; places change like costs."""
        return FlatScale(
            middle=(self.middle - best) / extent, spread=self.spread / extent, worst=(self.worst - best) / extent
        )

    @property
    def limit(self) -> float:
        """Largest cost that counts: a few students that learn nothing do not decide about the volume of the front."""
        return min(self.worst, self.middle + OUTLIERS * self.spread * self._farthest)

    @property
    def _farthest(self) -> float:
        """Place of the worst cost, in spreads beyond the middle."""
        return float(np.log1p(max(self.worst - self.middle, 0.0) / self.spread))


def flat_scale(costs: Floats, *, others: Floats) -> FlatScale | None:
    """Return the scale of costs (n,); None if there are too few or all are equal.

    others: more costs, nan if unknown. No cost is expected to be larger than all of them.
    """
    if len(costs) < FEWEST or np.ptp(costs) == 0:
        return None
    middle = float(np.median(costs))
    spread = float(np.sqrt(np.mean((costs[costs <= middle] - middle) ** 2)))
    return FlatScale(middle=middle, spread=max(spread, LEAST * float(np.ptp(costs))), worst=float(np.nanmax(others)))
