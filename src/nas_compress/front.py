"""The Pareto front of a study: dominance, hypervolume and choice on plain arrays, and the `Front` value.

In every array of costs a row is a point and a column an objective, and small is good.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isnan, log10
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nas_compress.errors import RequestError, require_known
from nas_compress.objective import DIRECTIONS, Budget, Objective

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

Floats = NDArray[np.float64]

COLUMNS = ("trial", "accuracy", "latency_ms", "size_bytes", "parameters", "macs", "model")
"""The columns of a table of points, before one column for each searched parameter."""


def non_dominated(costs: np.ndarray) -> NDArray[np.bool_]:
    """Mark the rows of costs (n, m) that no other row dominates; the result is (n,).

    A row dominates another if it is nowhere larger and somewhere smaller. Of equal rows the first is marked.
    RequestError where costs is not a table or holds a nan.
    """
    table = _table(costs)
    keep = np.zeros(len(table), dtype=np.bool_)
    for index in np.lexsort(table.T[::-1]):  # a row is dominated only by rows that sort before it
        keep[index] = not (table[keep] <= table[index]).all(axis=1).any()
    return keep


def hypervolume(costs: np.ndarray, reference: np.ndarray) -> float:
    """The volume that costs (n, m) dominate below `reference` (m,), exact for any m.

    Rows that are not smaller than the reference in every column add nothing. One sorted pass for 2 columns,
    a sweep that maintains a staircase for 3 (Fonseca et al. 2006, doi 10.1109/CEC.2006.1688440), and for more
    a recursion over slices along the last column: slow beyond 5 columns or some hundred rows.
    RequestError for shapes that do not fit, nan and -inf.
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
    """`count` rows of costs (n, m) chosen one after the other, each adding most hypervolume below `reference` (m,).

    The greedy choice holds at least 63 % of the largest volume that so many rows can have. A row can only add less
    than it did earlier, so most are not computed again (Guerreiro et al. 2016, doi 10.1162/EVCO_a_00159).
    """
    table, corner = _table(costs), np.asarray(reference, dtype=np.float64)
    shifted = np.minimum(table - corner, 0.0)
    gains = np.prod(-shifted, axis=1)
    chosen: list[int] = []
    fresh = np.zeros(len(table), dtype=np.intp)
    while len(chosen) < min(count, len(table)):
        row = int(gains.argmax())
        if fresh[row] < len(chosen):
            gains[row], fresh[row] = _gain(shifted[row], shifted[chosen]), len(chosen)
        else:
            chosen.append(row)
            gains[row] = -1.0
    return np.array(chosen, dtype=np.intp)


def knee(costs: np.ndarray) -> int:
    """The index of the row of costs (n, m) nearest to the ideal point: the balanced choice of the front.

    Among the rows that no other dominates, every column is brought to 0..1 (a column without extent to 0);
    the knee has the smallest Euclidean distance to 0. Of equally near rows the first wins.
    RequestError where there is no row.
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


@dataclass(frozen=True, kw_only=True)
class Point:
    """The figures of one finished trial, or of the teacher (whose trial is the word `teacher`).

    accuracy is a fraction of the validation split, nan where the trial ended before training. model is the
    path of the ONNX file, relative to the run folder; `searched` are the searched parameters by name;
    `feasible` says that every budget is kept.
    """

    trial: int | str
    accuracy: float
    latency_ms: float
    size_bytes: int
    parameters: int
    macs: int
    model: str = ""
    searched: tuple[tuple[str, object], ...] = ()
    feasible: bool = True

    def __post_init__(self) -> None:
        where = f"(trial {self.trial})"
        if self.accuracy < 0 or self.accuracy > 1:
            raise RequestError(f"0 <= accuracy <= 1 must hold, but got accuracy={self.accuracy} {where}")
        for name in ("latency_ms", "size_bytes", "parameters", "macs"):
            if self.figure(name) <= 0:
                raise RequestError(f"{name} > 0 must hold, but got {name}={self.figure(name)} {where}")

    def figure(self, name: str) -> float:
        """One figure by its objective's name; nan where it was not measured."""
        require_known("a figure", name, DIRECTIONS)
        return float(getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class Front:
    """All finished trials of a study, in finishing order, and what follows from them.

    `classes` gives the chance level 1 / classes. `reference_figures` replaces, by objective, the figures at
    which the hypervolume begins; without it they are the chance level and the teacher's costs.
    """

    objectives: tuple[Objective, ...]
    points: tuple[Point, ...]
    classes: int
    budgets: tuple[Budget, ...] = ()
    teacher: Point | None = None
    reference_figures: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        names = [objective.name for objective in self.objectives]
        if not names or len(set(names)) < len(names):
            given = ", ".join(names) or "none"
            raise RequestError(f"objectives must be one or more different figures, but got {given}")
        if self.classes < 2:
            raise RequestError(f"classes >= 2 must hold, but got classes={self.classes}")
        for name, value in self.reference_figures:
            require_known("a reference figure", name, names)
            if not 0 <= value < float("inf") or (value == 0 and name != "accuracy"):
                raise RequestError(f"a reference figure must be positive and finite, but got {name}={value}")

    @cached_property
    def members(self) -> tuple[Point, ...]:
        """The feasible points that no feasible point dominates, best first by the first objective."""
        points = self._comparable
        costs = np.array([[o.cost(point.figure(o.name)) for o in self.objectives] for point in points])
        keep = non_dominated(costs.reshape(-1, len(self.objectives)))
        kept = [(cost[0], point) for cost, point, kept in zip(costs, points, keep, strict=True) if kept]
        return tuple(point for _, point in sorted(kept, key=lambda pair: pair[0]))

    @property
    def dominated(self) -> tuple[Point, ...]:
        """The feasible points beside the members: dominated by one of them, or a later equal of one."""
        members = {id(point) for point in self.members}
        return tuple(point for point in self._comparable if id(point) not in members)

    @property
    def knee(self) -> Point | None:
        """The member nearest to the ideal point (see `knee`), costs counted by their logarithm."""
        return self.members[knee(self._scaled(self.members))] if self.members else None

    @property
    def reference(self) -> tuple[tuple[str, float], ...] | None:
        """The figures, by objective, at which the hypervolume begins; None where a teacher is missing."""
        known = {"accuracy": 1 / self.classes}
        if self.teacher is not None:
            known |= {name: self.teacher.figure(name) for name in DIRECTIONS if name != "accuracy"}
        known |= dict(self.reference_figures)
        names = [objective.name for objective in self.objectives]
        return tuple((name, known[name]) for name in names) if set(names) <= set(known) else None

    def normalised_costs(self, points: Sequence[Point]) -> Floats:
        """Costs (n, m) seen from the reference: chance - accuracy, else log10(value / teacher's value).

        A student with half of the teacher's size has a size cost of -0.3. RequestError without a reference.
        """
        if self.reference is None:
            raise RequestError("a hypervolume needs a teacher or all reference_figures, but got neither")
        pairs = zip(self.objectives, self.reference, strict=True)
        origin: Floats = np.array([_scaled(objective, value) for objective, (_, value) in pairs])
        return self._scaled(points) - origin

    def hypervolume(self) -> float:
        """The volume between the members and the reference, in normalised costs; larger is better.

        Its unit is accuracy x decades x decades for accuracy and two costs: with 10 classes, one student at
        0.9 accuracy, a tenth of the teacher's latency and a hundredth of its size gives 0.8 x 1 x 2 = 1.6.
        Students that are larger or slower than the teacher add nothing. RequestError without a reference.
        """
        return hypervolume(self.normalised_costs(self.members), np.zeros(len(self.objectives)))

    def hypervolume_history(self, points: Sequence[Point]) -> Floats:
        """The hypervolume (n,) after each of `points` in the order given; it never falls."""
        volume, volumes = 0.0, []
        archive = np.empty((0, len(self.objectives)))
        for row, point in zip(self.normalised_costs(points), points, strict=True):
            if self._usable(point) and (row < 0).all() and not (archive <= row).all(axis=1).any():
                volume += _gain(row, archive)
                archive = np.vstack([archive[~(row <= archive).all(axis=1)], row])
            volumes.append(volume)
        return np.array(volumes, dtype=np.float64)

    def to_rows(self) -> list[dict[str, object]]:
        """The members, best first, and the teacher last, as rows of a table; every row has every column.

        The columns are `COLUMNS` and one for each parameter that any point searched; None where a row has no
        value. A parameter that is called like a figure gets the column `searched_<name>`.
        """
        rows = self.members + ((self.teacher,) if self.teacher else ())
        return [_row(point, self._searched) for point in rows]

    def to_dataframe(self) -> pd.DataFrame:
        """The rows of `to_rows` as a pandas DataFrame."""
        import pandas as pd

        return pd.DataFrame(self.to_rows(), columns=list(self.columns))

    def _repr_html_(self) -> str:
        """A notebook's table: the members, best first, and the teacher."""
        shown: str = self.to_dataframe().to_html(index=False, na_rep="", float_format=lambda value: f"{value:.4g}")
        return shown

    def __rich__(self) -> Table:
        """A terminal's table."""
        from rich.table import Table

        table = Table(*self.columns)
        for row in self.to_rows():
            table.add_row(*("" if value is None else _cell(value) for value in row.values()))
        return table

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of `to_rows`, also where there is no row."""
        return COLUMNS + tuple(_column(name) for name in self._searched)

    @property
    def _searched(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for point in self.points for name, _ in point.searched))

    @property
    def _comparable(self) -> tuple[Point, ...]:
        return tuple(point for point in self.points if self._usable(point))

    def _usable(self, point: Point) -> bool:
        return point.feasible and not any(isnan(point.figure(o.name)) for o in self.objectives)

    def _scaled(self, points: Sequence[Point]) -> Floats:
        rows = [[_scaled(o, point.figure(o.name)) for o in self.objectives] for point in points]
        return np.array(rows, dtype=np.float64).reshape(-1, len(self.objectives))


def _scaled(objective: Objective, value: float) -> float:
    return objective.cost(value if objective.name == "accuracy" else log10(value))


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _column(name: str) -> str:
    return f"searched_{name}" if name in COLUMNS else name


def _row(point: Point, names: Sequence[str]) -> dict[str, object]:
    searched = dict(point.searched)
    row: dict[str, object] = {name: getattr(point, name) for name in COLUMNS}
    row |= {_column(name): searched.get(name) for name in names}
    return {name: None if isinstance(value, float) and isnan(value) else value for name, value in row.items()}


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
    """Rise along the third column, and widen the area of the first two at every point."""
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
    """Put (x, y) into a staircase that falls to the right, in place, and return the area that this adds."""
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


def _gain(row: Floats, archive: Floats) -> float:
    """What `row` adds to the archive: its own box less the part of it that the archive fills."""
    shared = hypervolume(np.maximum(archive, row), np.zeros(len(row)))
    return max(0.0, float(np.prod(-row)) - shared)
