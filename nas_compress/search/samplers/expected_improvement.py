"""Expected hypervolume improvement: by how much a candidate with uncertain figures may be expected to push the front.

Emmerich et al. 2006 (doi 10.1109/TEVC.2005.859463), computed exactly for independent normal figures from disjoint boxes
of what the front leaves free, as in Yang et al. 2019 (doi 10.1016/j.swevo.2018.10.007). Small is good in every column.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from nas_compress.values.pareto import non_dominated

Floats = NDArray[np.float64]


def free_boxes(front: Floats, corner: Floats) -> tuple[Floats, Floats]:
    """Lower and upper ends (k, m) of disjoint boxes that fill what lies below `corner` (m,) and no row dominates.

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
    """Boxes between the steps of a front of two columns, of which some rows may be dominated."""
    steps = front[np.lexsort((front[:, 1], front[:, 0]))]
    steps = steps[steps[:, 1] < np.concatenate([[np.inf], np.minimum.accumulate(steps[:-1, 1])])]
    left = np.concatenate([[-np.inf], steps[:, 0]])
    upper = np.column_stack([np.append(steps[:, 0], corner[0]), np.append(corner[1], steps[:, 1])])
    return np.column_stack([left, np.full(len(left), -np.inf)]), upper


def expected_improvement(means: Floats, deviations: Floats, lower: Floats, upper: Floats) -> Floats:
    """The expected volume (n,) that candidates with normal figures (n, m) add in the boxes (k, m)."""
    volumes = np.ones((len(means), len(lower)))
    for column in range(means.shape[1]):
        edges = np.unique(np.concatenate([lower[:, column], upper[:, column]]))
        filled = _filled(edges, means[:, column, None], deviations[:, column, None])
        volumes *= (
            filled[:, np.searchsorted(edges, upper[:, column])] - filled[:, np.searchsorted(edges, lower[:, column])]
        )
    return np.asarray(volumes.sum(axis=1), dtype=np.float64)


def _filled(edges: Floats, mean: Floats, deviation: Floats) -> Floats:
    """The expected length between a figure and each edge, 0 where it is beyond: E[max(0, edge - figure)]."""
    finite = np.where(np.isneginf(edges), 0.0, edges)
    away = (finite - mean) / deviation
    length = deviation * (away * ndtr(away) + np.exp(-0.5 * away**2) / np.sqrt(2 * np.pi))
    return np.asarray(np.where(np.isneginf(edges), 0.0, length), dtype=np.float64)
