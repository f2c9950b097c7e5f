"""Budgets in a panel: their lines and forbidden sides."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from nas_compress.plots import marks, scales
from nas_compress.plots.front_protocol import DrawnFront
from nas_compress.plots.label_placement import SIZE
from nas_compress.values.metrics.table import METRICS, Budget


def budgets_in_view(front: DrawnFront, names: Sequence[str]) -> list[Budget]:
    """The budgets on these metrics with a limit within the axis."""
    ranges = {name: scales.limits(front, name) for name in names}
    return [b for b in front.budgets if b.name in ranges and ranges[b.name][0] < b.limit < ranges[b.name][1]]


def nearest_limit(front: DrawnFront, name: str, ends: tuple[float, float]) -> float:
    """The worst figure in view: the strictest budget, else the worse end of the axis."""
    limits = [budget.limit for budget in budgets_in_view(front, [name])]
    return max([*limits, ends[0]]) if METRICS[name].direction == "maximize" else min([*limits, ends[1]])


def budget_lines(axes: Axes, front: DrawnFront, x: str, y: str) -> list[NDArray[np.float64]]:
    """Both ends (2, 2) of the line of each budget in view."""
    across, up = axes.get_xlim(), axes.get_ylim()
    return [
        np.column_stack([[b.limit] * 2, up] if b.name == x else [across, [b.limit] * 2])
        for b in budgets_in_view(front, [x, y])
    ]


def rule(budget: Budget) -> str:
    """The budget in words: `file size ≤ 256 kB`."""
    sign = "≤" if budget.rule == "at_most" else "≥"
    return f"{budget.metric.label} {sign} {budget.metric.shown(budget.limit)}"


def draw_budgets(axes: Axes, front: DrawnFront, x: str | None, y: str) -> None:
    """Shade the forbidden side of each budget in view, with a dashed line and the limit."""
    for budget in budgets_in_view(front, [name for name in (x, y) if name is not None]):
        if budget.name == x:
            _draw_upright(axes, budget)
        else:
            _draw_level(axes, budget)


def _draw_upright(axes: Axes, budget: Budget) -> None:
    low, high = axes.get_xlim()
    start, end = (low, budget.limit) if budget.rule == "at_least" else (budget.limit, high)
    axes.axvspan(start, end, color=marks.FORBIDDEN, linewidth=0, zorder=0)
    axes.axvline(budget.limit, color=marks.INFEASIBLE, linestyle="--", linewidth=1.0, zorder=1)
    axes.annotate(
        rule(budget),
        (budget.limit, 0.45),
        xycoords=axes.get_xaxis_transform(),
        xytext=(3, 0),
        textcoords="offset points",
        rotation=90,
        ha="left",
        va="center",
        fontsize=SIZE,
        color=marks.FORBIDDEN_INK,
        zorder=7,
    )


def _draw_level(axes: Axes, budget: Budget) -> None:
    low, high = axes.get_ylim()
    below = budget.rule == "at_least"
    axes.axhspan(low if below else budget.limit, budget.limit if below else high, color=marks.FORBIDDEN, lw=0, zorder=0)
    axes.axhline(budget.limit, color=marks.INFEASIBLE, linestyle="--", linewidth=1.0, zorder=1)
    axes.annotate(
        rule(budget),
        (0.98 if below else 0.03, budget.limit),
        xycoords=axes.get_yaxis_transform(),
        xytext=(0, -3 if below else 3),
        textcoords="offset points",
        ha="right" if below else "left",
        va="top" if below else "bottom",
        fontsize=SIZE,
        color=marks.FORBIDDEN_INK,
        zorder=7,
    )
