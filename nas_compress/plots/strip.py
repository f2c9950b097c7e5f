"""The panel of a study with one objective: that figure over the trials, in finishing order."""

from __future__ import annotations

from math import isnan, nan

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from nas_compress.plots import marks, scales
from nas_compress.plots.budget_lines import draw_budgets
from nas_compress.plots.front_protocol import DrawnFront
from nas_compress.plots.labels import put_label
from nas_compress.plots.panel import axis_words, plain
from nas_compress.values.metrics import Objective


def draw_strip(axes: Axes, front: DrawnFront, objective: Objective) -> None:
    """Draw one figure of every trial and the best so far; the teacher is a line across."""
    name = objective.name
    scales.dress(axes.yaxis, name, *scales.limits(front, name))
    count = max(len(front.points), 1)
    axes.set_xlim(0.4, count + max(0.6, 0.03 * count))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
    axes.set_xlabel("finished trials, in order", fontsize=9)
    axes.set_ylabel(axis_words(name), fontsize=9)
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
            put_label(axes, (order, value), f"trial {point.trial}", np.array(drawn), marks.INK)


def _draw_best(axes: Axes, front: DrawnFront, objective: Objective) -> None:
    usable = {id(point) for point in front.members + front.dominated}
    costs = [objective.cost(p.figure(objective.name)) if id(p) in usable else np.inf for p in front.points]
    best = np.minimum.accumulate(np.array([*costs, np.inf]))
    known = np.isfinite(best)
    across, level = np.arange(1, len(best) + 1)[known], np.abs(best[known])
    axes.step(across, level, where="post", color=marks.MEMBER, linewidth=1.2, zorder=3)
