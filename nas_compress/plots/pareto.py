"""The picture of a Pareto front: one panel for each pair of objectives."""

from __future__ import annotations

from itertools import combinations
from math import isnan
from pathlib import Path

from matplotlib.figure import Figure

from nas_compress.plots import canvas, marks
from nas_compress.plots.budget_lines import budgets_in_view, rule
from nas_compress.plots.canvas import Picture
from nas_compress.plots.front_protocol import DrawnFront
from nas_compress.plots.matplotlib_isolation import default_settings
from nas_compress.plots.panel import Spreads, draw_panel, draw_spreads, draw_trials, visible
from nas_compress.values.front_point import Point
from nas_compress.values.metrics.table import METRICS

CAPTION = "Each point is a student trained from scratch; its ONNX file was measured, accuracy on the validation split."


NOT_REPEATED = Spreads(by_trial={})


def plot_front(front: DrawnFront, path: Path, *, title: str, spreads: Spreads = NOT_REPEATED) -> None:
    """Write the picture of a front (.png, .svg or .pdf) in one step; RequestError for another suffix."""
    canvas.require_picture(path)
    front_picture(front, title=title, spreads=spreads).save(path)


@default_settings()
def front_picture(
    front: DrawnFront, *, title: str, spreads: Spreads = NOT_REPEATED, trial: int | None = None
) -> Picture:
    """One panel for each pair of objectives; a single objective is drawn over the trials.

    Repeated members have bars. Points far below the front are drawn at the edge. trial: gets an arrow if it was
    measured.
    """
    figure = _draw(front, title, spreads)
    for panel, (x, y) in zip(figure.axes, pairs(front), strict=False):
        for point in visible(front, x, y):
            if point.trial == trial and point.exit_point is None:
                marks.draw_arrow(panel, point.figure(x), point.figure(y), f"trial {trial}")
    return Picture(figure)


def pairs(front: DrawnFront) -> list[tuple[str, str]]:
    """Each pair of objectives as (across, upright). A maximised metric is upright."""
    names = [objective.name for objective in front.objectives]
    return [(y, x) if METRICS[x].direction == "maximize" else (x, y) for x, y in combinations(names, 2)]


def _draw(front: DrawnFront, title: str, spreads: Spreads) -> Figure:
    panels = pairs(front)
    names = [objective.name for objective in front.objectives]
    entries = marks.legend_entries(front, budgets=bool(budgets_in_view(front, names)))
    figure, axes = canvas.sheet(len(panels) or 1, title=title, caption=_caption(front, spreads), entries=entries)
    for panel, (x, y) in zip(axes, panels, strict=False):
        draw_panel(panel, front, x, y)
        draw_spreads(panel, front, x, y, spreads)
    if not panels:
        draw_trials(axes[0], front, front.objectives[0])
    return figure


def _learned(front: DrawnFront) -> list[str]:
    """The metrics of the study not known before training."""
    return [name for name in front.figure_names if not METRICS[name].known_before_training]


def _is_untrained(front: DrawnFront, point: Point) -> bool:
    learned = [point.figure(name) for name in _learned(front)]
    return bool(learned) and not point.stopped and all(isnan(value) for value in learned)


def _caption(front: DrawnFront, spreads: Spreads) -> str:
    lines = [CAPTION] if front.points else ["No trial has finished yet."]
    if len(front.objectives) > 1:
        names = [objective.metric.label for objective in front.objectives]
        all_of = f"{', '.join(names[:-1])} and {names[-1]}"
        lines.append(f"On the front: no other student is as good or better in {all_of} at once.")
    notes = [f"Latency: {front.all_conditions}."] if front.all_conditions else []
    if front.budgets:
        notes.append(f"Budgets: {', '.join(rule(budget) for budget in front.budgets)}.")
    trials = [point for point in front.points if point.exit_point is None]
    if len(trials) < len(front.points):
        notes.append("A dotted line joins the exit points of one trained network; a bar ends at the p95 latency.")
    stopped = sum(point.stopped for point in trials)
    if stopped:
        notes.append(f"{stopped} of {len(trials)} trials were stopped early.")
    untrained = sum(_is_untrained(front, point) for point in trials)
    if untrained:
        learned = " and ".join(METRICS[name].label for name in _learned(front))
        notes.append(f"{untrained} of {len(trials)} trials ended before training and have no {learned}.")
    parts = [*lines, " ".join(notes), str(spreads)]
    return "\n".join(line for line in parts if line)
