"""Expected hypervolume improvement of proposals, by models of the observations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution
from scipy.special import ndtr

from nas_compress.search.samplers.earlier import OWN, SOURCE, in_own_spread
from nas_compress.search.samplers.flat_scale import FlatScale, flat_scale, normal_room
from nas_compress.search.samplers.gaussian_process import (
    Constant,
    GaussianProcess,
    condition,
    differences,
    find_hyperparameters,
)
from nas_compress.search.samplers.observations import Observed
from nas_compress.search.samplers.proposals import SpacePoint, features
from nas_compress.values.pareto import Floats, non_dominated

FITTED = 60
"""Number of observations for a model's hyperparameters if too few are settled."""
BEYOND = 0.1
"""Distance of the volume's corner beyond the worst costs, as a fraction of their extent."""
TINY = 1e-300
SURE = 1e-6
"""Standard deviation of known values, for an extent of 1."""


class Acquisition:
    """Models of the observations and their predictions for points.

    distributions: parameters of the models. Candidates of running trials count with their predicted means (Ginsbourger
    et al. 2010, the kriging believer).
    floors: least qualities of the candidates whose volume counts, None for the whole front. Of several, each gain
    counts as a fraction of the largest one.
    The quality is modelled on a scale on which poor candidates lie close together (flat_scale.py). A normal forecast
    there is a skewed one of the quality: an uncertain candidate may be far worse than expected, but not as far better.
    """

    def __init__(
        self,
        observed: Observed,
        distributions: Mapping[str, BaseDistribution],
        *,
        floors: Sequence[float | None] = (None,),
    ) -> None:
        sources = sorted({each[SOURCE] for each in observed.params if SOURCE in each})
        self._distributions = {**distributions, **({SOURCE: CategoricalDistribution(sources)} if sources else {})}
        self._places, self._unordered = features(observed.params, self._distributions)
        self._unordered |= np.array([name == SOURCE for name in sorted(self._distributions)])
        self._apart = differences(self._places, self._places, self._unordered)
        self._settled = observed.settled
        self._rows = {key: row for row, key in enumerate(observed.keys)}
        scale, costs = _scale_of(observed), observed.costs
        if (column := observed.quality) is not None and sources:
            costs = costs.copy()
            costs[:, column] = in_own_spread(costs[:, column], [each.get(SOURCE) for each in observed.params])
        self._costs = _Figures(values=costs, variances=observed.variances, column=observed.quality, scale=scale)
        self._excess = _Figures(
            values=np.log1p(np.maximum(observed.excess, -0.999)), variances=np.zeros_like(observed.excess)
        )
        front, best, extent = observed.front, *_range(observed)
        if len(running := observed.running):
            means, _ = self._forecast(self._costs, self._apart[running], running)
            values = costs.copy()
            values[running] = means
            self._costs = _Figures(values=values, variances=observed.variances, column=observed.quality, scale=scale)
            front = np.concatenate([front, running])
        self._best, self._extent = best, extent
        members = (self._costs.values[front] - best) / extent
        limit = None if scale is None else scale.limit
        levels = [limit if floor is None else -floor for floor in floors]
        self._boxes = [_boxes(members, _corner(observed, best, extent, level=level)) for level in levels]

    def improvements(self, points: Sequence[SpacePoint]) -> Floats:
        """Return the expected hypervolume improvement (k,) of points, times their probability to be feasible.

        Values known before training count as known. If no point is likely to be feasible, the result is the
        probability, scaled far below any improvement.
        """
        asked, rows = self._asked(points)
        means, deviations = self._on_scale(self._costs, asked, rows)
        deviations = np.maximum(deviations / self._extent, SURE)
        means = (means - self._best) / self._extent
        scales = self._costs.scales_in_unit(self._best, self._extent)
        gains = [np.maximum(expected_improvement(means, deviations, *boxes, scales), 0) for boxes in self._boxes]
        if len(gains) > 1:
            gains = [gain / max(gain.max(), TINY) for gain in gains]
        volumes = np.sum(gains, axis=0)
        excess, unsure = self._forecast(self._excess, asked, rows)
        chances = np.where(unsure > 0, ndtr(-excess / np.maximum(unsure, SURE)), excess <= 0).prod(axis=1)
        return np.asarray(volumes * chances + 1e-12 * chances, dtype=np.float64)

    def forecast(self, points: Sequence[SpacePoint]) -> tuple[Floats, Floats]:
        """Return means and standard deviations (k, m) of the costs of points."""
        return self._forecast(self._costs, *self._asked(points))

    def _asked(self, points: Sequence[SpacePoint]) -> tuple[Floats, NDArray[np.intp]]:
        """Return the distances (k, n, d) of points from the observations, and their rows; -1 without one."""
        places, _ = features([point.params for point in points], self._distributions)
        rows = np.array([self._rows.get(point.key, -1) for point in points], dtype=np.intp)
        return differences(places, self._places, self._unordered), rows

    def _forecast(self, figures: _Figures, asked: Floats, rows: NDArray[np.intp]) -> tuple[Floats, Floats]:
        """Return means and standard deviations (k, c) at distances `asked` (k, n, d)."""
        means, deviations = self._on_scale(figures, asked, rows)
        if figures.column is not None and figures.scale is not None:
            column = figures.column
            means[:, column], deviations[:, column] = figures.scale.moments(means[:, column], deviations[:, column])
        return means, deviations

    def _on_scale(self, figures: _Figures, asked: Floats, rows: NDArray[np.intp]) -> tuple[Floats, Floats]:
        """Return the same with the quality on its scale, if it has one. Known `rows` have deviation 0."""
        known = np.where(figures.variances > 0, np.nan, figures.values)
        means = np.where(rows[:, None] >= 0, known[rows], np.nan)
        if figures.column is not None and figures.scale is not None:
            means[:, figures.column] = figures.scale.flat(means[:, figures.column])
        deviations = np.zeros_like(means)
        for column in range(means.shape[1]):
            unknown = np.isnan(means[:, column])
            if unknown.any():
                found, process = figures.model(column, self._apart, self._settled)
                there = asked[unknown] if len(found) == asked.shape[1] else asked[np.ix_(unknown, found)]
                means[unknown, column], deviations[unknown, column] = process.predict(there)
        return means, deviations


@dataclass(kw_only=True, eq=False)
class _Figures:
    """Columns (n, c) of figures, nan if unknown. The model of each is made on first use.

    column: the one that is modelled on a scale, if there is one.
    """

    values: Floats
    variances: Floats
    column: int | None = None
    scale: FlatScale | None = None
    _models: dict[int, tuple[NDArray[np.intp], GaussianProcess | Constant]] = field(default_factory=dict)

    def scales_in_unit(self, best: Floats, extent: Floats) -> dict[int, FlatScale]:
        """Return the scale by its column, for costs whose best is 0 and whose extent is 1; empty without one."""
        if self.column is None or self.scale is None:
            return {}
        return {self.column: self.scale.in_unit(float(best[self.column]), float(extent[self.column]))}

    def model(
        self, column: int, apart: Floats, settled: tuple[NDArray[np.bool_], NDArray[np.bool_]]
    ) -> tuple[NDArray[np.intp], GaussianProcess | Constant]:
        """Return the known rows and the model of them. Its hyperparameters are fitted to the settled rows."""
        if column not in self._models:
            values, variances = self.values[:, column], self.variances[:, column]
            found = np.flatnonzero(np.isfinite(values))
            if column == self.column and (scale := self.scale) is not None:
                values, variances = scale.flat(values), variances * scale.slopes(values) ** 2
            lasting = settled[0] if np.isfinite(values[settled[0]]).all() else settled[1]
            self._models[column] = found, _model(values, variances, found, apart, lasting)
        return self._models[column]


def _model(
    values: Floats, variances: Floats, found: NDArray[np.intp], apart: Floats, settled: NDArray[np.bool_]
) -> GaussianProcess | Constant:
    if len(found) < 2 or np.ptp(values[found]) == 0:
        return Constant(mean=float(values[found].mean()) if len(found) else 0.0, deviation=1.0)
    fitted = found[settled[found] & (variances[found] == 0)]
    if len(fitted) < 3 or np.ptp(values[fitted]) == 0:
        fitted = found[:FITTED]
    logs = find_hyperparameters(apart[np.ix_(fitted, fitted)], values[fitted], variances[fitted])
    return condition(apart[np.ix_(found, found)], values[found], variances[found], logs)


def _range(observed: Observed) -> tuple[Floats, Floats]:
    """Return the best of each cost and its extent, among the feasible candidates if there are any.

    Candidates of earlier studies count for a cost that fewer than `OWN` of the study's own have.
    """
    feasible, found = ~(observed.excess > 0).any(axis=1), []
    for column in observed.costs.T:
        known = np.isfinite(column)
        alone = observed.own.all() or (known & observed.own).sum() >= OWN
        counted = observed.own if alone else np.ones_like(observed.own)
        likely = feasible & counted
        found.append(column[known & (likely if likely.sum() > 1 else counted)])
    best = np.array([column.min() if len(column) else 0.0 for column in found])
    extent = np.array([np.ptp(column) if len(column) else 0.0 for column in found])
    return best, np.where(extent > 0, extent, 1.0)


def best_quality(observed: Observed) -> float | None:
    """Return the best quality of the feasible candidates; None without one."""
    if observed.quality is None:
        return None
    column = observed.costs[:, observed.quality]
    return -float(_range(observed)[0][observed.quality]) if np.isfinite(column).any() else None


def _corner(observed: Observed, best: Floats, extent: Floats, *, level: float | None) -> Floats:
    """Return the worst costs of a candidate that counts, scaled to a best of 0 and an extent of 1.

    level: largest cost of the quality that counts.
    """
    corner = np.full(len(best), 1 + BEYOND)
    column = observed.quality
    if column is not None and level is not None:
        corner[column] = min(corner[column], (level - best[column]) / extent[column])
    return corner


def _scale_of(observed: Observed) -> FlatScale | None:
    """Return the scale of the quality by the settled trials, so that its model keeps its hyperparameters."""
    if observed.quality is None:
        return None
    values = observed.costs[:, observed.quality]
    own = observed.own & np.isfinite(values)  # earlier studies may have other accuracies
    return flat_scale(values[observed.settled[1] & own], others=values[own])


def _boxes(members: Floats, corner: Floats) -> tuple[Floats, Floats]:
    """Return the undominated space below a corner; see `free_boxes`. members: costs of front members."""
    below = members[(members < corner).all(axis=1)]
    return free_boxes(below[non_dominated(below)], corner)


def free_boxes(front: Floats, corner: Floats) -> tuple[Floats, Floats]:
    """Return lower and upper ends (k, m) of disjoint boxes: the undominated space below `corner` (m,).

    front: (n, m), rows below the corner. Lower ends reach to -inf.
    """
    if not len(front):
        return np.full((1, len(corner)), -np.inf), corner[None].copy()
    if len(corner) == 1:
        return np.array([[-np.inf]]), np.array([[front.min()]])
    if len(corner) == 2:
        return _stairs(front, corner)
    levels = np.concatenate([[-np.inf], np.unique(front[:, -1]), corner[-1:]])
    below, above = [], []
    for low, high in pairwise(levels):
        section = front[front[:, -1] <= low, :-1]
        if len(section) and len(corner) > 3:
            section = section[non_dominated(section)]
        lower, upper = free_boxes(section, corner[:-1])
        below.append(np.column_stack([lower, np.full(len(lower), low)]))
        above.append(np.column_stack([upper, np.full(len(upper), high)]))
    return np.concatenate(below), np.concatenate(above)


def _stairs(front: Floats, corner: Floats) -> tuple[Floats, Floats]:
    """Return boxes between the steps of a front of two columns. Rows may be dominated."""
    steps = front[np.lexsort((front[:, 1], front[:, 0]))]
    steps = steps[steps[:, 1] < np.concatenate([[np.inf], np.minimum.accumulate(steps[:-1, 1])])]
    left = np.concatenate([[-np.inf], steps[:, 0]])
    upper = np.column_stack([np.append(steps[:, 0], corner[0]), np.append(corner[1], steps[:, 1])])
    return np.column_stack([left, np.full(len(left), -np.inf)]), upper


def expected_improvement(
    means: Floats,
    deviations: Floats,
    lower: Floats,
    upper: Floats,
    scales: Mapping[int, FlatScale] = MappingProxyType({}),
) -> Floats:
    """Return the expected hypervolume improvement (n,) of candidates with figures of these means and deviations (n, m).

    lower, upper: boxes (k, m) of `free_boxes`. scales: of columns that are normal on a scale only, where their means
    and deviations are. The value is exact for independent figures (Emmerich et al. 2006, doi
    10.1109/TEVC.2005.859463), but for the integral over a scale; it is summed over disjoint boxes as in Yang et al.
    2019 (doi 10.1016/j.swevo.2018.10.007). Small is good in every column.
    """
    volumes = np.ones((len(means), len(lower)))
    for column in range(means.shape[1]):
        edges = np.unique(np.concatenate([lower[:, column], upper[:, column]]))
        filled = _filled(edges, means[:, column], deviations[:, column], scales.get(column))
        volumes *= (
            filled[:, np.searchsorted(edges, upper[:, column])] - filled[:, np.searchsorted(edges, lower[:, column])]
        )
    return np.asarray(volumes.sum(axis=1), dtype=np.float64)


def _filled(edges: Floats, means: Floats, deviations: Floats, scale: FlatScale | None) -> Floats:
    """Return the expected length (n, e) between a figure and each edge (e,), 0 beyond it."""
    finite = np.where(np.isneginf(edges), 0.0, edges)
    if scale is None:
        length = normal_room(finite, means[:, None], deviations[:, None])
    else:
        length = scale.room(finite, means, deviations)
    return np.asarray(np.where(np.isneginf(edges), 0.0, length), dtype=np.float64)
