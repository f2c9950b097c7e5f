"""Marks of a plot: a colour for each kind of point, a shape for each number format."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from nas_compress.plots.front_protocol import DrawnFront
from nas_compress.values.front_point import Point
from nas_compress.values.metrics.table import METRICS
from nas_compress.values.precision import FLOAT32, SIMULATED, without_float32

# The palette of Okabe and Ito for colour-blind readers: https://jfly.uni-koeln.de/color
MEMBER = "#0072B2"
DOMINATED = "#9A9A9A"
INFEASIBLE = "#D55E00"
TEACHER = "#E69F00"
TEACHER_INK = "#8A5A00"
INK = "#222222"
FORBIDDEN = "#F9EBE1"
FORBIDDEN_INK = "#A34700"

_SHAPES = ("s", "D", "^", "P", "h", "X", "p", "<", ">", "d", "8", "H", "1", "2", "3", "4")
_CROWD = 150


def shapes(points: Iterable[Point]) -> dict[str, str]:
    """The marker of each number format. Circles are float32, unknown formats, and a format shared by all points."""
    kinds = {without_float32(point.number_format) for point in points}
    known = kinds - {"", FLOAT32}
    shared = not kinds - known and len(known) == 1
    named = {"": "o", FLOAT32: "o"}
    return named | {kind: "o" if shared else _SHAPES[i % len(_SHAPES)] for i, kind in enumerate(sorted(known))}


def draw_points(axes: Axes, places: Sequence[tuple[float, float, Point]], front: DrawnFront, name: str) -> None:
    """Draw points at (x, y). Points below the axis of the metric `name` become arrows at its edge, with their count."""
    markers = shapes(front.points)
    members = {id(member) for member in front.members}
    low, high = axes.get_ylim()
    edge = low + 0.015 * (high - low)
    alike: dict[tuple[str, str], list[tuple[float, float]]] = {}  # one call per marker is 40 times faster
    for x, y, point in places:
        hidden = y < low
        color = MEMBER if id(point) in members else DOMINATED if point.feasible or point.stopped else INFEASIBLE
        marker = "v" if hidden else markers[without_float32(point.number_format)] if point.feasible else "x"
        alike.setdefault((color, marker), []).append((x, edge if hidden else y))
    size = 5.0 if len(places) > _CROWD else 7.0
    for (color, marker), positions in alike.items():
        _draw_alike(axes, positions, color=color, marker=marker, size=size)
    _count_hidden(axes, sum(y < low for _, y, _ in places), METRICS[name].shown(float(f"{low:.3g}")))


def _draw_alike(axes: Axes, positions: Sequence[tuple[float, float]], *, color: str, marker: str, size: float) -> None:
    x, y = zip(*positions, strict=True)
    if color == MEMBER:
        axes.plot(x, y, marker, markersize=size, color=color, mec="white", mew=0.7, zorder=5)
    elif color == DOMINATED and marker != "x":
        axes.plot(x, y, marker, markersize=0.75 * size, color=color, mec="white", mew=0.5, zorder=2)
    else:
        axes.plot(x, y, marker, markersize=0.8 * size, color=color, zorder=2)


def draw_knee(axes: Axes, x: float, y: float) -> None:
    """Draw a ring around the knee."""
    axes.plot(x, y, marker="o", markersize=12, color="none", mec=INK, mew=1.4, zorder=6)


def draw_arrow(axes: Axes, x: float, y: float, words: str) -> None:
    """Draw an arrow with words at (x, y), or at the edge of the panel if y is below it."""
    low, high = axes.get_ylim()
    place = (x, max(y, low + 0.015 * (high - low)))
    right = axes.transAxes.inverted().transform(axes.transData.transform(place))[0] > 0.5
    axes.annotate(
        words,
        place,
        xytext=(-34 if right else 34, 26),
        textcoords="offset points",
        ha="right" if right else "left",
        fontsize=9,
        fontweight="bold",
        color=INK,
        zorder=8,
        arrowprops={"arrowstyle": "->", "color": INK, "shrinkB": 5},
        bbox={"facecolor": "white", "alpha": 0.85, "linewidth": 0, "pad": 1},
    )


def draw_teacher(axes: Axes, x: float, y: float) -> None:
    """Draw the teacher's star."""
    axes.plot(x, y, marker="*", markersize=15, color=TEACHER, mec=INK, zorder=6)


def legend_entries(front: DrawnFront, *, budgets: bool) -> list[Line2D | Patch]:
    """One entry for each kind of mark in the plot. budgets: whether a budget is in view."""
    single = len(front.objectives) == 1
    entries: list[Line2D | Patch] = []
    if front.members:
        entries.append(_mark("best trial" if single else "on the front", "o", 7, MEMBER, "white"))
        entries.append(_line("best so far" if single else "edge of the front in these two figures", MEMBER, "-"))
    if front.knee is not None and not single:
        entries.append(_mark("knee: the balanced choice", "o", 10, "none", INK))
    if front.dominated:
        entries.append(_mark("beaten by another student", "o", 5.5, DOMINATED, "white"))
    if any(point.stopped for point in front.points):
        entries.append(_mark("stopped early", "x", 6, DOMINATED, DOMINATED))
    if any(not point.feasible and not point.stopped for point in front.points):
        entries.append(_mark("breaks a budget", "x", 6, INFEASIBLE, INFEASIBLE))
    if budgets:
        entries.append(Patch(facecolor=FORBIDDEN, edgecolor=INFEASIBLE, linestyle="--", label="beyond a budget"))
    if front.teacher is not None:
        entries.append(_line("teacher", TEACHER, "-.") if single else _mark("teacher", "*", 13, TEACHER, INK))
    if any(point.exit_point is not None for point in front.points):
        entries.append(Line2D([], [], color=INK, linewidth=1.0, linestyle=":", label="exit points of one network"))
        entries.append(_mark("p95 latency of a network with exits", "|", 7, MEMBER, MEMBER))
    return entries + _precision_entries(front)


def _precision_entries(front: DrawnFront) -> list[Line2D | Patch]:
    """One entry for each number format if formats differ, or if bits are simulated."""
    markers = shapes(front.points)
    kinds = sorted({without_float32(point.number_format) for point in front.points} - {""})
    shown = kinds if len(kinds) > 1 else [kind for kind in kinds if SIMULATED in kind]
    return [_mark(f"shape: {kind}", markers[kind], 6, "white", INK) for kind in shown]


def _mark(label: str, marker: str, size: float, color: str, edge: str) -> Line2D:
    return Line2D(
        [],
        [],
        linestyle="none",
        marker=marker,
        markersize=size,
        color=color,
        markeredgecolor=edge,
        label=label,
    )


def _line(label: str, color: str, style: Literal["-", "-."]) -> Line2D:
    return Line2D([], [], color=color, linewidth=1.4, linestyle=style, label=label)


def _count_hidden(axes: Axes, count: int, low: str) -> None:
    if count:
        axes.annotate(
            f"▼ {count} below {low}",
            (1, 0),
            xycoords="axes fraction",
            xytext=(-2, 9),
            textcoords="offset points",
            ha="right",
            va="bottom",
            fontsize=8,
            color="#555555",
            zorder=7,
            bbox={"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 1},
        )
