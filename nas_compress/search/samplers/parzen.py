"""Parzen estimators of one parameter: where good trials lie, as a density that can be drawn from."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from scipy.special import ndtr

Floats = NDArray[np.float64]

GRID = 256
"""A parameter with at most so many values is estimated value by value."""


@dataclass(frozen=True, kw_only=True)
class Kernels:
    """A mixture of normal distributions cut to [low, high]: means, widths and weights (n,), weights summing to 1."""

    means: Floats
    widths: Floats
    weights: Floats
    low: float
    high: float

    def between(self, edges: Floats) -> Floats:
        """The probability (m - 1,) of each cell between neighbouring edges (m,)."""
        below = ndtr((edges[:, None] - self.means) / self.widths)
        whole = ndtr((self.high - self.means) / self.widths) - ndtr((self.low - self.means) / self.widths)
        return np.asarray(np.diff(below, axis=0) @ (self.weights / whole), dtype=np.float64)

    def density(self, places: Floats) -> Floats:
        """The density (m,) at places (m,)."""
        away = (places[:, None] - self.means) / self.widths
        whole = ndtr((self.high - self.means) / self.widths) - ndtr((self.low - self.means) / self.widths)
        peak = self.weights / (whole * self.widths * math.sqrt(2 * math.pi))
        return np.asarray(np.exp(-0.5 * away**2) @ peak, dtype=np.float64)

    def draw(self, count: int, random: np.random.Generator) -> Floats:
        """Places (count,) drawn from the mixture; a draw beyond the ends is repeated, and at last brought to them."""
        chosen = random.choice(len(self.means), count, p=self.weights)
        places = random.normal(self.means[chosen], self.widths[chosen])
        for _ in range(20):
            beyond = (places < self.low) | (places > self.high)
            if not beyond.any():
                break
            places[beyond] = random.normal(self.means[chosen[beyond]], self.widths[chosen[beyond]])
        return np.asarray(np.clip(places, self.low, self.high), dtype=np.float64)


def choice_probabilities(observed: NDArray[np.intp], weights: Floats, count: int) -> Floats:
    """The probability (count,) of each choice, from observed indices with their weights and a uniform prior."""
    smoothing = 1 / (len(observed) + 1)
    seen = np.bincount(observed, weights, minlength=count)
    mixed = (seen + smoothing * weights.sum()) / (1 + count * smoothing) + 1 / count
    return np.asarray(mixed / mixed.sum(), dtype=np.float64)


def kernels(observed: Floats, weights: Floats, *, low: float, high: float) -> Kernels:
    """A kernel on each observation, as wide as the gap to its farther neighbour, and a wide one for the prior.

    Bergstra et al. 2011 (Algorithms for hyper-parameter optimization), section 4.2: widths lie between a hundredth (for
    few observations a 1 / n-th) and the whole of the interval. Equal kernels are merged.
    """
    order = np.argsort(observed, kind="stable")
    places, known = observed[order], weights[order]
    ends = np.concatenate([[low], places, [high]])
    gaps = np.maximum(places - ends[:-2], ends[2:] - places)
    if len(places) > 1:
        gaps[0], gaps[-1] = places[1] - places[0], places[-1] - places[-2]
    extent = high - low
    widths = np.clip(gaps, extent / min(100.0, 2.0 + len(places)), extent)
    pairs = np.column_stack([np.append(places, (low + high) / 2), np.append(widths, extent)])
    unique, inverse = np.unique(pairs, axis=0, return_inverse=True)
    mass = np.bincount(inverse.ravel(), np.append(known, 1.0))
    return Kernels(means=unique[:, 0], widths=unique[:, 1], weights=mass / mass.sum(), low=low, high=high)


def best_draw(
    distribution: BaseDistribution,
    good: Floats,
    bad: Floats,
    bad_weights: Floats,
    *,
    draws: int,
    random: np.random.Generator,
) -> float:
    """Of `draws` values from the density of the good ones, that with the largest ratio of good to bad density.

    good, bad: Optuna's internal values (indices of categorical choices). The result is internal too.
    """
    even = np.ones(len(good))
    if isinstance(distribution, CategoricalDistribution):
        count = len(distribution.choices)
        ratio = _Grid(
            choice_probabilities(good.astype(np.intp), even, count),
            choice_probabilities(bad.astype(np.intp), bad_weights, count),
        )
        return float(ratio.best(draws, random))
    if not isinstance(distribution, (FloatDistribution, IntDistribution)):
        raise TypeError(f"no estimator for {type(distribution).__name__}")
    step = distribution.step
    half = 0.0 if step is None else step / 2
    scale = math.log if distribution.log else float
    low, high = scale(distribution.low - half), scale(distribution.high + half)
    if distribution.log:
        good, bad = np.log(good), np.log(bad)
    below, above = kernels(good, even, low=low, high=high), kernels(bad, bad_weights, low=low, high=high)
    if step is not None and (distribution.high - distribution.low) / step < GRID:
        values = np.arange(round((distribution.high - distribution.low) / step) + 1) * step + distribution.low
        edges = np.append(values - half, values[-1] + half)
        edges = np.log(edges) if distribution.log else edges
        return float(values[_Grid(below.between(edges), above.between(edges)).best(draws, random)])
    places = below.draw(draws, random)
    place = float(places[np.argmax(below.density(places) / above.density(places))])
    value = math.exp(place) if distribution.log else place
    if step is not None:
        value = distribution.low + round((value - distribution.low) / step) * step
    return min(max(value, distribution.low), distribution.high)


@dataclass(frozen=True)
class _Grid:
    good: Floats
    bad: Floats

    def best(self, draws: int, random: np.random.Generator) -> int:
        drawn = np.unique(random.choice(len(self.good), draws, p=self.good / self.good.sum()))
        return int(drawn[np.argmax(self.good[drawn] / self.bad[drawn])])
