"""What a picture needs to know of a front."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nas_compress.values.metrics import Budget, Objective
from nas_compress.values.point import Point


class DrawnFront(Protocol):
    """The side of a `Front` that pictures see; the front itself lies above them and draws itself by them."""

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """What is made better."""

    @property
    def budgets(self) -> tuple[Budget, ...]:
        """Limits on figures."""

    @property
    def points(self) -> tuple[Point, ...]:
        """All measured students."""

    @property
    def figure_names(self) -> tuple[str, ...]:
        """The metrics of the study."""

    @property
    def members(self) -> tuple[Point, ...]:
        """Those on the front, best first."""

    @property
    def dominated(self) -> tuple[Point, ...]:
        """Those within the budgets that are not on the front."""

    @property
    def knee(self) -> Point | None:
        """The balanced choice."""

    @property
    def teacher(self) -> Point | None:
        """What the students are compared with."""

    @property
    def reference(self) -> tuple[tuple[str, float], ...] | None:
        """Where the hypervolume begins."""

    @property
    def reference_figures(self) -> tuple[tuple[str, float], ...]:
        """What of it was given by the user."""

    def hypervolume_history(self, points: Sequence[Point]) -> NDArray[np.float64]:
        """The hypervolume after each of the points."""
