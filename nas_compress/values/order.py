"""Order points under several objectives: non-dominated fronts, and inside a front an epsilon-net."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def fronts(costs: Floats, *, enough: int | None = None) -> NDArray[np.intp]:
    """The number (n,) of each row's non-dominated front, from 0; equal rows share one.

    costs: (n, m), small is good. A row dominates another if it is nowhere larger and somewhere smaller. Once fronts
    hold `enough` rows, the number of all others is -1.
    """
    number = np.full(len(costs), -1, dtype=np.intp)
    columns = np.ascontiguousarray(costs.T)
    left = np.argsort(costs.sum(axis=1), kind="stable")  # a row is dominated only by rows of a smaller sum
    front, wanted = 0, len(costs) if enough is None else min(enough, len(costs))
    while len(costs) - len(left) < wanted:
        rest, later = left, []
        while len(rest):
            beaten = _beaten(columns, rest)
            number[rest[0]] = front
            later.append(rest[beaten])
            rest = rest[1:][~beaten[1:]]
        left = np.sort(np.concatenate(later))
        left = left[np.argsort(costs[left].sum(axis=1), kind="stable")]
        front += 1
    return number


def _beaten(columns: Floats, rows: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Which of `rows` the first of them dominates. Column by column: numpy is slow along short rows."""
    nowhere_smaller, somewhere_larger = np.ones(len(rows), dtype=np.bool_), np.zeros(len(rows), dtype=np.bool_)
    for column in columns:
        values, best = column[rows], column[rows[0]]
        nowhere_smaller &= values >= best
        somewhere_larger |= values > best
    return nowhere_smaller & somewhere_larger


def epsilon_net(costs: Floats) -> NDArray[np.intp]:
    """The rows (n,) in an order whose every beginning covers the whole set.

    The row with the smallest first column, then again and again the row farthest from all that were taken. Columns are
    replaced by their ranks, brought to 0..1, so that units and outliers do not matter. Of equally far rows the first
    is taken. Clarkson 2006's farthest-point order, used for this purpose by Salinas et al. 2021 (MO-ASHA).
    """
    scaled = np.column_stack([_ranks(column) for column in costs.T])
    chosen = [int(scaled[:, 0].argmin())]
    distance = np.linalg.norm(scaled - scaled[chosen[0]], axis=1)
    distance[chosen[0]] = -1.0
    while len(chosen) < len(scaled):
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(scaled - scaled[chosen[-1]], axis=1))
        distance[chosen[-1]] = -1.0
    return np.array(chosen, dtype=np.intp)


def place(costs: Floats, row: int) -> int:
    """How many rows stand before `row`: those of better fronts, and inside its own those earlier in the net."""
    number = fronts(costs)
    own = np.flatnonzero(number == number[row])
    better = int((number < number[row]).sum())
    return better + int(np.flatnonzero(own[epsilon_net(costs[own])] == row)[0])


def _ranks(column: Floats) -> Floats:
    """0 for the smallest value and 1 for the largest, by rank; equal values share a rank."""
    values, inverse = np.unique(column, return_inverse=True)
    return np.asarray(inverse / max(1, len(values) - 1), dtype=np.float64)
