"""The Protocol of a front for pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nas_compress.values.front_point import Point
from nas_compress.values.metrics.table import Budget, Objective


class DrawnFront(Protocol):
    """The parts of a `Front` in pictures. `Front` itself is on a higher floor."""

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The metrics to improve."""

    @property
    def budgets(self) -> tuple[Budget, ...]:
        """Limits on metrics."""

    @property
    def points(self) -> tuple[Point, ...]:
        """All measured students."""

    @property
    def figure_names(self) -> tuple[str, ...]:
        """The metrics of the study."""

    @property
    def conditions(self) -> str:
        """The conditions of the latencies in words; empty for the default ones."""

    @property
    def all_conditions(self) -> str:
        """The conditions on all devices in one line."""

    def conditions_of(self, metric: str) -> str:
        """The conditions of one timed metric."""

    @property
    def members(self) -> tuple[Point, ...]:
        """The points on the front, best first."""

    @property
    def dominated(self) -> tuple[Point, ...]:
        """The feasible points behind the front."""

    @property
    def knee(self) -> Point | None:
        """The balanced choice."""

    @property
    def teacher(self) -> Point | None:
        """The teacher, None if it was not measured."""

    @property
    def reference(self) -> tuple[tuple[str, float], ...] | None:
        """The start of the hypervolume by objective, None if unknown."""

    @property
    def reference_figures(self) -> tuple[tuple[str, float], ...]:
        """The parts of the reference given by the user."""

    def hypervolume_history(self, points: Sequence[Point]) -> NDArray[np.float64]:
        """The hypervolume after each of the points."""
