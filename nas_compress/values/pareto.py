"""Pareto dominance on arrays: non-dominated rows, ordered fronts, hypervolume and knee.

In an array of costs, rows are points and columns are objectives. Small is good.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

import numpy as np
from numpy.typing import NDArray

from nas_compress.errors import RequestError

Floats = NDArray[np.float64]


def non_dominated(costs: np.ndarray) -> NDArray[np.bool_]:
    """Mark the non-dominated rows of costs (n, m); the result is (n,).

    A row dominates another if it is nowhere larger and somewhere smaller. Of equal rows the first is marked.
    RequestError if costs is not two-dimensional or contains nan.
    """
    table = _table(costs)
    keep = np.zeros(len(table), dtype=np.bool_)
    for index in np.lexsort(table.T[::-1]):  # a row is dominated only by rows that sort before it
        keep[index] = not (table[keep] <= table[index]).all(axis=1).any()
    return keep


def hypervolume(costs: np.ndarray, reference: np.ndarray) -> float:
    """The volume dominated by costs (n, m) below `reference` (m,), exact for any m.

    Rows beyond the reference in any column add nothing.
    Two columns take one sorted pass, three a sweep with a staircase (Fonseca et al. 2006, doi
    10.1109/CEC.2006.1688440). More columns recurse over slices along the last one, which is slow beyond 5 columns or
    some hundred rows.
    RequestError for mismatched shapes, nan and -inf.

    >>> hypervolume(np.array([[1.0, 2.0], [2.0, 1.0]]), np.array([3.0, 3.0]))
    3.0
    """
    table, corner = _table(costs), np.asarray(reference, dtype=np.float64)
    if corner.shape != table.shape[1:] or not np.isfinite(corner).all():
        raise RequestError(
            f"the reference must be {table.shape[1]} finite numbers, one a column, but got {corner.tolist()}"
        )
    if np.isneginf(table).any():
        raise RequestError("costs must be greater than -inf, but got -inf")
    return _volume(table[(table < corner).all(axis=1)], corner)


def spread_subset(costs: np.ndarray, reference: np.ndarray, count: int) -> NDArray[np.intp]:
    """Choose `count` rows of costs (n, m) greedily by their gain of hypervolume below `reference` (m,).

    The greedy choice has at least 63 % of the largest volume of `count` rows. The gain of a row can only fall, so most
    gains are not computed again (Guerreiro et al. 2016, doi 10.1162/EVCO_a_00159).
    """
    table, corner = _table(costs), np.asarray(reference, dtype=np.float64)
    shifted = np.minimum(table - corner, 0.0)
    gains = np.prod(-shifted, axis=1)
    chosen: list[int] = []
    fresh = np.zeros(len(table), dtype=np.intp)
    while len(chosen) < min(count, len(table)):
        row = int(gains.argmax())
        if fresh[row] < len(chosen):
            gains[row], fresh[row] = volume_gain(shifted[row], shifted[chosen]), len(chosen)
        else:
            chosen.append(row)
            gains[row] = -1.0
    return np.array(chosen, dtype=np.intp)


def knee(costs: np.ndarray) -> int:
    """The index of the row of costs (n, m) nearest to the ideal point, the balanced choice of the front.

    Each column of the non-dominated rows is scaled to 0..1; a constant column becomes 0. The knee has the smallest
    Euclidean distance to 0. Of equally near rows the first wins. RequestError if there is no row.
    """
    members = np.flatnonzero(non_dominated(costs))
    if not len(members):
        raise RequestError("a knee needs at least one row, but got none")
    table = _table(costs)[members]
    extent = np.ptp(table, axis=0)
    scaled = (table - table.min(axis=0)) / np.where(extent > 0, extent, 1.0)
    distances = np.sqrt((scaled**2).sum(axis=1))
    nearest = np.flatnonzero(np.isclose(distances, distances.min(), rtol=1e-9, atol=1e-12))
    return int(members[nearest[0]])


def fronts(costs: Floats, *, enough: int | None = None) -> NDArray[np.intp]:
    """The index (n,) of the non-dominated front of each row of costs (n, m), from 0; equal rows share a front.

    enough: stop after this number of rows; the remaining rows get -1.
    """
    number = np.full(len(costs), -1, dtype=np.intp)
    columns = np.ascontiguousarray(costs.T)
    # A row is dominated only by rows with a smaller sum.
    left = np.argsort(costs.sum(axis=1), kind="stable")
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
    """Mark those of `rows` dominated by the first of them."""
    nowhere_smaller, somewhere_larger = np.ones(len(rows), dtype=np.bool_), np.zeros(len(rows), dtype=np.bool_)
    for column in columns:  # numpy is slow along short rows
        values, best = column[rows], column[rows[0]]
        nowhere_smaller &= values >= best
        somewhere_larger |= values > best
    return nowhere_smaller & somewhere_larger


def epsilon_net(costs: Floats) -> NDArray[np.intp]:
    """The rows (n,) in farthest-point order: every prefix covers the whole set.

    The first row has the smallest first column; each next row is the farthest from all rows before it. Columns are
    replaced by ranks scaled to 0..1, because units and outliers must not matter. Ties take the first row. Order by
    Clarkson 2006, used for this purpose by Salinas et al. 2021 (MO-ASHA).
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
    """The number of rows before `row`: rows of better fronts, then rows earlier in the net of its own front."""
    number = fronts(costs)
    own = np.flatnonzero(number == number[row])
    better = int((number < number[row]).sum())
    return better + int(np.flatnonzero(own[epsilon_net(costs[own])] == row)[0])


def _table(costs: np.ndarray) -> Floats:
    table = np.asarray(costs, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] < 1:
        raise RequestError(f"costs must have the shape (points, objectives), but got {table.shape}")
    if np.isnan(table).any():
        raise RequestError("costs must be numbers, but got nan")
    return table


def _volume(table: Floats, corner: Floats) -> float:
    if not len(table):
        return 0.0
    if len(corner) == 1:
        return float(corner[0] - table.min())
    if len(corner) == 2:
        return _area(table, corner)
    return _sweep(table, corner) if len(corner) == 3 else _slices(table, corner)


def _area(table: Floats, corner: Floats) -> float:
    order = table[np.lexsort((table[:, 1], table[:, 0]))]
    lowest = np.minimum.accumulate(np.concatenate([corner[1:], order[:, 1]]))
    return float(((corner[0] - order[:, 0]) * (lowest[:-1] - lowest[1:])).sum())


def _sweep(table: Floats, corner: Floats) -> float:
    """Sweep along the third column and widen the area of the first two at each point."""
    right, top, end = (float(value) for value in corner)
    steps, heights = [-np.inf, right], [top, -np.inf]
    volume = area = 0.0
    level = end
    for x, y, z in sorted(table.tolist(), key=lambda row: row[2]):
        volume += area * (z - level)
        area += _widen(steps, heights, x, y)
        level = z
    return volume + area * (end - level)


def _widen(steps: list[float], heights: list[float], x: float, y: float) -> float:
    """Insert (x, y) into a falling staircase in place and return the added area."""
    if heights[bisect_right(steps, x) - 1] <= y:
        return 0.0
    first = last = bisect_left(steps, x)
    added = (steps[first] - x) * (heights[first - 1] - y)
    while heights[last] >= y:
        added += (steps[last + 1] - steps[last]) * (heights[last] - y)
        last += 1
    steps[first:last], heights[first:last] = [x], [y]
    return added


def _slices(table: Floats, corner: Floats) -> float:
    order = table[np.argsort(table[:, -1], kind="stable")]
    levels = np.append(order[:, -1], corner[-1])
    volume = 0.0
    for index, thickness in enumerate(np.diff(levels)):
        if thickness > 0:
            section = order[: index + 1, :-1]
            volume += float(thickness) * _volume(section[non_dominated(section)], corner[:-1])
    return volume


def volume_gain(row: Floats, archive: Floats) -> float:
    """The volume added to the archive by `row`: its own box less the part filled by the archive.

    Rows are relative to the reference, and finite or inf.
    """
    shared = np.maximum(archive, row)
    inside = shared[(shared < 0).all(axis=1)]
    return max(0.0, float(np.prod(-row)) - _volume(inside, np.zeros(len(row))))


def _ranks(column: Floats) -> Floats:
    """0 for the smallest value and 1 for the largest, by rank; equal values share a rank."""
    values, inverse = np.unique(column, return_inverse=True)
    return np.asarray(inverse / max(1, len(values) - 1), dtype=np.float64)
