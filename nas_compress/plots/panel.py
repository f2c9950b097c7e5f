"""Panels: a study in two metrics, or one metric over its trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isnan, nan

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from nas_compress.plots import marks, scales
from nas_compress.plots.budget_lines import budget_lines, draw_budgets, nearest_limit
from nas_compress.plots.canvas import plain
from nas_compress.plots.front_protocol import DrawnFront
from nas_compress.plots.label_placement import put_label
from nas_compress.values.device_settings import P95
from nas_compress.values.front_point import Point
from nas_compress.values.metrics.table import METRICS, Objective
from nas_compress.values.pareto import non_dominated


@dataclass(frozen=True, kw_only=True)
class Spreads:
    """Repetitions of members with new seeds.

    by_trial: mean and standard deviation of `metric` over seeds. alike: pairs of members within noise of each other.
    """

    by_trial: Mapping[int, tuple[float, float]]
    alike: Sequence[tuple[int | str, int | str]] = ()
    metric: str = "accuracy"

    def __str__(self) -> str:
        """The caption for the bars; empty if no member was repeated."""
        if not self.by_trial:
            return ""
        words = f"Bars: mean and standard deviation of the {METRICS[self.metric].label} over new seeds."
        pairs = ", ".join(f"{one} and {other}" for one, other in self.alike[:8])
        more = f" and {len(self.alike) - 8} more pairs" if len(self.alike) > 8 else ""
        return f"{words} Within noise of each other on the test split: trials {pairs}{more}." if pairs else words


LONGEST_WORDS = 34
"""Letters of an axis label in one line, as many as fit a panel beside the arrow."""


def draw_panel(axes: Axes, front: DrawnFront, x: str, y: str) -> None:
    """Draw the front in the metrics `x` and `y`: points, staircase, budgets and labels."""
    scales.dress(axes.xaxis, x, *scales.limits(front, x))
    scales.dress(axes.yaxis, y, *scales.limits(front, y))
    axes.set_xlabel(axis_words(x, front.conditions_of(x)), fontsize=9)
    axes.set_ylabel(axis_words(y, front.conditions_of(y)), fontsize=9)
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
    _draw_curves(axes, front, x, y)
    _draw_named(axes, front, x, y, stairs)


def draw_trials(axes: Axes, front: DrawnFront, objective: Objective) -> None:
    """Draw one metric of every trial in finishing order, the best so far, and the teacher as a line across."""
    name = objective.name
    scales.dress(axes.yaxis, name, *scales.limits(front, name))
    count = max(len(front.points), 1)
    axes.set_xlim(0.4, count + max(0.6, 0.03 * count))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
    axes.set_xlabel("finished trials, in order", fontsize=9)
    axes.set_ylabel(axis_words(name, front.conditions_of(name)), fontsize=9)
    plain(axes)
    draw_budgets(axes, front, None, name)
    places = [(float(order), point.figure(name), point) for order, point in enumerate(front.points, 1)]
    marks.draw_points(axes, [place for place in places if not isnan(place[1])], front, name)
    _draw_best(axes, front, objective)
    taught = front.teacher.figure(name) if front.teacher else nan
    if front.teacher is not None:
        axes.axhline(taught, color=marks.TEACHER, linestyle="-.", linewidth=1.4, zorder=1)
    for order, value, point in places:
        if point is front.knee:
            drawn = [(across, up) for across, up, _ in places if not isnan(up)]
            drawn += [(across, level) for across, _, _ in places for level in (value, taught)]
            put_label(axes, (order, value), point.words, np.array(drawn), marks.INK)


def draw_spreads(axes: Axes, front: DrawnFront, x: str, y: str, spreads: Spreads) -> None:
    """Draw a bar of mean and standard deviation at each repeated member if `y` is the repeated metric."""
    if y != spreads.metric:
        return
    repeated = [p for p in front.members if p.trial in spreads.by_trial and p.exit_point is None]
    known = [(p.figure(x), *spreads.by_trial[int(p.trial)]) for p in repeated]
    if known:
        places, means, deviations = zip(*known, strict=True)
        axes.errorbar(places, means, deviations, fmt="_", color=marks.INK, ecolor=marks.INK, capsize=3, lw=1, zorder=4)


def curves(front: DrawnFront, x: str, y: str) -> list[list[Point]]:
    """The points of each trained network with several choices of thresholds, from the smallest x.

    Empty unless the figures are a latency across and a maximised metric upright.
    """
    if not METRICS[x].timed or METRICS[y].direction != "maximize":
        return []
    of_trial: dict[int | str, list[Point]] = {}
    for point in visible(front, x, y):
        if point.early_exits and not point.stopped:
            of_trial.setdefault(point.trial, []).append(point)
    return [sorted(points, key=lambda point: point.figure(x)) for points in of_trial.values() if len(points) > 1]


def _draw_curves(axes: Axes, front: DrawnFront, x: str, y: str) -> None:
    """Join the exit points of each network; a bar goes from the mean latency of a member to its 95th percentile."""
    members = {id(member) for member in front.members}
    for points in curves(front, x, y):
        across, upright = [p.figure(x) for p in points], [p.figure(y) for p in points]
        axes.plot(across, upright, ":", color=marks.INK, linewidth=1.0, alpha=0.7, zorder=1)
    if x != "latency_ms" or METRICS[y].direction != "maximize":
        return
    for point in visible(front, x, y, P95):
        if point.early_exits and id(point) in members:
            ends = (point.figure(x), point.figure(P95))
            axes.plot(ends, [point.figure(y)] * 2, "-", color=marks.MEMBER, linewidth=0.9, alpha=0.5, zorder=1)
            axes.plot(ends[1], point.figure(y), "|", color=marks.MEMBER, markersize=7, alpha=0.6, zorder=1)


def axis_words(name: str, conditions: str = "") -> str:
    """The axis label with an arrow to the better side; the arrow turns with the words on an upright axis.

    conditions: of the latencies.
    """
    metric = METRICS[name]
    words = metric.axis(conditions)
    if len(words) > LONGEST_WORDS:
        words = words.replace(" (", "\n(", 1)
    return f"{words}   better →" if metric.direction == "maximize" else f"← better   {words}"


def visible(front: DrawnFront, *names: str) -> list[Point]:
    """The points with measured values of all these metrics."""
    return [point for point in front.points if not any(isnan(point.figure(name)) for name in names)]


def staircase(members: Sequence[Point], x: str, y: str, right: float, worst: float) -> NDArray[np.float64]:
    """Corners (n, 2) of the edge of the attained region in the metrics `x` and `y`.

    The edge starts at the `worst` y, turns at each member non-dominated in these two metrics, and ends at `right`, the
    worst x. Without members it is empty, (0, 2).
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
    """Draw the ring of the knee and the star of the teacher, with their labels."""
    places = [(point.figure(x), point.figure(y)) for point in visible(front, x, y)]
    star = (nan, nan) if front.teacher is None else (front.teacher.figure(x), front.teacher.figure(y))
    has_star = not any(isnan(value) for value in star)
    if has_star:
        marks.draw_teacher(axes, *star)
        places.append(star)
    lines = [_along(stairs), *(_along(edge) for edge in budget_lines(axes, front, x, y))]
    drawn = np.vstack([np.array(places).reshape(-1, 2), *lines])
    if has_star:
        put_label(axes, star, "teacher", drawn, marks.TEACHER_INK)
    if front.knee is not None and front.knee.figure(y) >= axes.get_ylim()[0]:
        place = (front.knee.figure(x), front.knee.figure(y))
        marks.draw_knee(axes, *place)
        put_label(axes, place, f"knee: trial {front.knee.label}", drawn, marks.INK)


def _along(stairs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Closely spaced positions on a line, as obstacles for labels."""
    pieces = [np.linspace(start, end, 20) for start, end in pairwise(stairs)]
    return np.vstack(pieces) if pieces else np.empty((0, 2))


def _draw_best(axes: Axes, front: DrawnFront, objective: Objective) -> None:
    usable = {id(point) for point in front.members + front.dominated}
    costs = [objective.cost(p.figure(objective.name)) if id(p) in usable else np.inf for p in front.points]
    best = np.minimum.accumulate(np.array([*costs, np.inf]))
    known = np.isfinite(best)
    across, level = np.arange(1, len(best) + 1)[known], np.abs(best[known])
    axes.step(across, level, where="post", color=marks.MEMBER, linewidth=1.2, zorder=3)
