"""The Pareto front of a study, computed from all of its finished trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite, isnan, log10, nan
from typing import TYPE_CHECKING

import numpy as np

from nas_compress.errors import RequestError, require_known
from nas_compress.values.front_point import Point
from nas_compress.values.metrics.table import METRICS, Budget, Objective, in_table_order
from nas_compress.values.pareto import Floats, hypervolume, knee, non_dominated, volume_gain

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from nas_compress.plots.canvas import Picture


@dataclass(frozen=True, kw_only=True)
class Front:
    """All finished trials of a study in finishing order, and the front among them.

    A network with early exits has one point for each measured choice of thresholds.

    classes: number of classes, for the chance levels in METRICS; None for other tasks.
    chance: chance levels by metric, if they do not follow from `classes`.
    reference_figures: start of the hypervolume by objective, instead of the chance level and the teacher's
    costs.
    conditions: of the latencies, in words as in `DeviceSettings.conditions`; empty for the default ones.
    device_conditions: those of named devices, by name; without the default ones.

    >>> def student(trial, accuracy, size_bytes):
    ...     return Point(trial=trial, figures={"accuracy": accuracy, "size_bytes": size_bytes})
    >>> front = Front(
    ...     objectives=(Objective(name="accuracy"), Objective(name="size_bytes")),
    ...     points=(student(0, 0.9, 20_000), student(1, 0.8, 30_000), student(2, 0.95, 90_000)),
    ...     classes=10,
    ... )
    >>> [point.trial for point in front.members]
    [2, 0]
    """

    objectives: tuple[Objective, ...]
    points: tuple[Point, ...]
    classes: int | None = None
    budgets: tuple[Budget, ...] = ()
    teacher: Point | None = None
    reference_figures: tuple[tuple[str, float], ...] = ()
    chance: tuple[tuple[str, float], ...] = ()
    conditions: str = ""
    device_conditions: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        names = [objective.name for objective in self.objectives]
        if not names or len(set(names)) < len(names):
            given = ", ".join(names) or "none"
            raise RequestError(f"objectives must be one or more different figures, but got {given}")
        if self.classes is not None and self.classes < 2:
            raise RequestError(f"classes >= 2 must hold, but got classes={self.classes}")
        for name, value in self.reference_figures:
            require_known("a reference figure", name, names)
            if not isfinite(value):
                raise RequestError(f"a reference figure must be finite, but got {name}={value}")
            METRICS[name].require(value, " as a reference figure")

    def conditions_of(self, metric: str) -> str:
        """The conditions of a timed metric in words; empty for the default ones."""
        device = METRICS[metric].device
        return dict(self.device_conditions).get(device, "") if device else self.conditions

    @property
    def all_conditions(self) -> str:
        """The conditions of the latencies on all devices in one line; empty if all are the default ones.

        >>> conditions = (("here", "batch of 1, 4 threads"),)
        >>> Front(objectives=(Objective(name="accuracy"),), points=(), device_conditions=conditions).all_conditions
        'on here: batch of 1, 4 threads'
        """
        return conditions_in_words({"": self.conditions, **dict(self.device_conditions)})

    @cached_property
    def members(self) -> tuple[Point, ...]:
        """The non-dominated feasible points, best first by the first objective."""
        points = self._comparable
        costs = np.array([[o.cost(point.figure(o.name)) for o in self.objectives] for point in points])
        keep = non_dominated(costs.reshape(-1, len(self.objectives)))
        kept = [(cost[0], point) for cost, point, kept in zip(costs, points, keep, strict=True) if kept]
        return tuple(point for _, point in sorted(kept, key=lambda pair: pair[0]))

    @property
    def dominated(self) -> tuple[Point, ...]:
        """The feasible points without the members."""
        members = {id(point) for point in self.members}
        return tuple(point for point in self._comparable if id(point) not in members)

    @property
    def knee(self) -> Point | None:
        """The member nearest to the ideal point (see `pareto.knee`), with costs on their own scales."""
        return self.members[knee(self._scaled(self.members))] if self.members else None

    @property
    def reference(self) -> tuple[tuple[str, float], ...] | None:
        """The start of the hypervolume by objective; None if one figure is unknown."""
        given = dict(self.reference_figures)
        found = [(o.name, given.get(o.name, self._origin(o))) for o in self.objectives]
        return None if any(isnan(value) for _, value in found) else tuple(found)

    def normalised_costs(self, points: Sequence[Point]) -> Floats:
        """Costs (n, m) relative to the reference: chance - accuracy, or log10(value / teacher's value).

        Metrics of a logarithmic scale count in decades: a student of half the teacher's size has a size cost of -0.3.
        RequestError without a reference.
        """
        if self.reference is None:
            raise RequestError("a hypervolume needs a teacher or all reference_figures, but got neither")
        pairs = zip(self.objectives, self.reference, strict=True)
        origin: Floats = np.array([_scaled(objective, value) for objective, (_, value) in pairs])
        return self._scaled(points) - origin

    def hypervolume(self) -> float:
        """The volume between the members and the reference in normalised costs; larger is better.

        The unit for accuracy and two costs is accuracy x decades x decades. Example with 10 classes: one student with
        0.9 accuracy, a tenth of the teacher's latency and a hundredth of its size gives 0.8 x 1 x 2 = 1.6.
        Students larger or slower than the teacher add nothing. RequestError without a reference.
        """
        return hypervolume(self.normalised_costs(self.members), np.zeros(len(self.objectives)))

    def hypervolume_history(self, points: Sequence[Point]) -> Floats:
        """The hypervolume (n,) after each of `points` in the given order; it never falls."""
        volume, volumes = 0.0, []
        archive = np.empty((0, len(self.objectives)))
        for row, point in zip(self.normalised_costs(points), points, strict=True):
            if self._usable(point) and (row < 0).all() and not (archive <= row).all(axis=1).any():
                volume += volume_gain(row, archive)
                archive = np.vstack([archive[~(row <= archive).all(axis=1)], row])
            volumes.append(volume)
        return np.array(volumes, dtype=np.float64)

    def to_rows(self) -> list[dict[str, object]]:
        """The members, best first, and the teacher last, as rows of a table.

        The columns are `fixed_columns` and one for each searched parameter. A missing value is None. A parameter
        with the name of a fixed column gets the column `searched_<name>`.
        """
        rows = self.members + ((self.teacher,) if self.teacher else ())
        return [self._row(point) for point in rows]

    def to_dataframe(self) -> pd.DataFrame:
        """The rows of `to_rows` as a pandas DataFrame."""
        import pandas as pd

        return pd.DataFrame(self.to_rows(), columns=list(self.columns))

    def plot(self, *, title: str = "") -> Picture:
        """The front as a picture with a panel for each pair of objectives. Notebooks show it.

        >>> front = Front(objectives=(Objective(name="accuracy"), Objective(name="size_bytes")), points=(), classes=10)
        >>> front.plot(title="nothing yet").figure.texts[0].get_text()
        'nothing yet'
        """
        from nas_compress.plots.pareto import front_picture

        return front_picture(self, title=title)

    def _repr_html_(self) -> str:
        """The table in a notebook."""
        shown: str = self.to_dataframe().to_html(index=False, na_rep="", float_format=lambda value: f"{value:.4g}")
        return shown

    def __rich__(self) -> Table:
        """The table in a terminal."""
        from rich.table import Table

        table = Table(*self.columns)
        for row in self.to_rows():
            table.add_row(*("" if value is None else _cell(value) for value in row.values()))
        return table

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of `to_rows`, even if there is no row."""
        return self.fixed_columns + tuple(self._column(name) for name in self._searched)

    @property
    def fixed_columns(self) -> tuple[str, ...]:
        """The columns before those of the searched parameters."""
        places = ("trial", "exit_point") if any(point.exit_point is not None for point in self.points) else ("trial",)
        own = (*places, *self.figure_names, "epochs_spent", "model", "number_format")
        return (*own, "conditions") if self.all_conditions else own

    @cached_property
    def figure_names(self) -> tuple[str, ...]:
        """The metrics of this study: measured ones, objectives and budgets."""
        points = self.points + ((self.teacher,) if self.teacher else ())
        measured = {name for point in points for name in point.figures}
        asked = {objective.name for objective in self.objectives} | {budget.name for budget in self.budgets}
        return in_table_order(measured | asked)

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

    def _origin(self, objective: Objective) -> float:
        """The chance level if the metric has one, else the teacher's figure; nan if neither is known."""
        levels, chance = dict(self.chance), objective.metric.chance
        if objective.name in levels:
            return levels[objective.name]
        if chance is not None and self.classes is not None:
            return chance(self.classes)
        return nan if self.teacher is None else self.teacher.figure(objective.name)

    def _column(self, name: str) -> str:
        return f"searched_{name}" if name in self.fixed_columns else name

    def _row(self, point: Point) -> dict[str, object]:
        searched = dict(point.searched)
        words = self.all_conditions
        row = point_values(point, self.figure_names) | ({"conditions": words} if words else {})
        if "exit_point" not in self.fixed_columns:
            del row["exit_point"]
        return row | {self._column(name): searched.get(name) for name in self._searched}


def conditions_in_words(conditions: Mapping[str, str]) -> str:
    """Conditions by device in one line; the study's own device has no name. Empty words are left out."""
    known = {name: words for name, words in conditions.items() if words}
    return "; ".join(f"on {name}: {words}" if name else words for name, words in known.items())


def point_values(point: Point, figure_names: Sequence[str]) -> dict[str, object]:
    """The fixed columns of one point; an unmeasured figure is None."""
    figures = {name: point.figures.get(name) for name in figure_names}
    known = {name: None if value is None or isnan(value) else value for name, value in figures.items()}
    others = {"epochs_spent": point.epochs_spent, "model": point.model, "number_format": point.number_format}
    return {"trial": point.trial, "exit_point": point.exit_point, **known, **others}


def _scaled(objective: Objective, value: float) -> float:
    return objective.cost(log10(value) if objective.metric.log_scale else value)


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
