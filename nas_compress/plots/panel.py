"""One panel: the points of a study seen by two figures."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import isnan

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from nas_compress.plots import marks, scales
from nas_compress.plots.budget_lines import budget_lines, draw_budgets, nearest_limit
from nas_compress.plots.front_protocol import DrawnFront
from nas_compress.plots.labels import put_label
from nas_compress.values.metrics import METRICS, Objective
from nas_compress.values.pareto import non_dominated
from nas_compress.values.point import Point


def draw_panel(axes: Axes, front: DrawnFront, x: str, y: str) -> None:
    """Draw the front over a cost `x` and a figure `y`: points, the pair's staircase, budgets, labels."""
    scales.dress(axes.xaxis, x, *scales.limits(front, x))
    scales.dress(axes.yaxis, y, *scales.limits(front, y))
    axes.set_xlabel(axis_words(x), fontsize=9)
    axes.set_ylabel(axis_words(y), fontsize=9)
    plain(axes)
    draw_budgets(axes, front, x, y)
    stairs = staircase(
        front.members,
        x,
        y,
        nearest_limit(front, x, axes.get_xlim()),
        nearest_limit(front, y, axes.get_ylim()),
    )
    axes.plot(*stairs.T, color=marks.MEMBER, linewidth=1.2, zorder=3)
    marks.draw_points(axes, [(p.figure(x), p.figure(y), p) for p in visible(front, x, y)], front, y)
    _draw_named(axes, front, x, y, stairs)


def axis_words(name: str) -> str:
    """The axis label with an arrow to the better side; the arrow turns with the words on an upright axis."""
    metric = METRICS[name]
    words = metric.axis_label
    return f"{words}   better →" if metric.direction == "maximize" else f"← better   {words}"


def plain(axes: Axes) -> None:
    """Take away what carries no information and lay a faint grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#E4E4E4", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8.5)


def visible(front: DrawnFront, *names: str) -> list[Point]:
    """The points of which all these figures were measured."""
    return [point for point in front.points if not any(isnan(point.figure(name)) for name in names)]


def staircase(members: Sequence[Point], x: str, y: str, right: float, worst: float) -> NDArray[np.float64]:
    """Corners (n, 2) of the edge of the region that the members attain in the metrics `x` and `y`.

    The edge starts at the `worst` y, turns at each member that is non-dominated in these two metrics, and ends at
    `right`, the worst x. Without members it is empty, (0, 2).
    """
    signs = np.array([Objective(name=name).cost(1.0) for name in (x, y)])
    costs = np.array([(member.figure(x), member.figure(y)) for member in members]).reshape(-1, 2) * signs
    best = costs[non_dominated(costs)]
    if not len(best):
        return np.empty((0, 2))
    best = best[np.argsort(best[:, 0])]
    ends = np.array([right, worst]) * signs
    corners = [(best[0, 0], max(ends[1], best[0, 1]))]
    for (here, level), after in zip(best, [*best[1:, 0], max(ends[0], best[-1, 0])], strict=True):
        corners += [(here, level), (after, level)]
    edge: NDArray[np.float64] = np.array(corners) * signs
    return edge


def _draw_named(axes: Axes, front: DrawnFront, x: str, y: str, stairs: NDArray[np.float64]) -> None:
    """Draw the knee's ring and the teacher's star, and name both where there is room."""
    places = [(point.figure(x), point.figure(y)) for point in visible(front, x, y)]
    if front.teacher is not None:
        star = (front.teacher.figure(x), front.teacher.figure(y))
        marks.draw_teacher(axes, *star)
        places.append(star)
    lines = [_along(stairs), *(_along(edge) for edge in budget_lines(axes, front, x, y))]
    drawn = np.vstack([np.array(places).reshape(-1, 2), *lines])
    if front.teacher is not None:
        put_label(axes, star, str(front.teacher.trial), drawn, marks.TEACHER_INK)
    if front.knee is not None and front.knee.figure(y) >= axes.get_ylim()[0]:
        place = (front.knee.figure(x), front.knee.figure(y))
        marks.draw_knee(axes, *place)
        put_label(axes, place, f"knee: trial {front.knee.trial}", drawn, marks.INK)


def _along(stairs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Many positions on the line, so that words can keep away from all of it."""
    pieces = [np.linspace(start, end, 20) for start, end in pairwise(stairs)]
    return np.vstack(pieces) if pieces else np.empty((0, 2))
