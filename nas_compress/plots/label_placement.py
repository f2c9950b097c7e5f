"""Placement of labels next to marks."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

SIZE = 8.5
"""Height of the words in points."""

# Above and to the left first: no student is there, because that side is better than the front.
_DIRECTIONS = ((-1, 1), (1, -1), (-1, 0), (0, 1), (1, 0), (0, -1), (1, 1), (-1, -1))
_DISTANCES = (9.0, 20.0, 34.0)


def put_label(axes: Axes, at: tuple[float, float], text: str, drawn: NDArray[np.float64], color: str) -> None:
    """Write `text` near the data position `at`, away from the positions `drawn` (n, 2).

    Set the limits of the axes before, because the free space depends on them.
    """
    scale = axes.figure.dpi / 72
    origin = axes.transData.transform(at)
    obstacles = axes.transData.transform(drawn) if len(drawn) else np.empty((0, 2))
    width, height = 0.63 * SIZE * len(text) * scale, 1.25 * SIZE * scale
    x, y = min(
        ((dx * distance, dy * distance) for distance in _DISTANCES for dx, dy in _DIRECTIONS),
        key=lambda offset: _covered(axes, _box(origin, offset, width, height, scale), obstacles),
    )
    axes.annotate(
        text,
        at,
        xytext=(x, y),
        textcoords="offset points",
        ha=("right", "center", "left")[int(np.sign(x)) + 1],
        va=("top", "center", "bottom")[int(np.sign(y)) + 1],
        fontsize=SIZE,
        color=color,
        fontweight="bold",
        zorder=8,
        arrowprops={"arrowstyle": "-", "color": color, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 5},
    )


def _box(
    origin: Iterable[float], offset: tuple[float, float], width: float, height: float, scale: float
) -> tuple[float, float, float, float]:
    """Left, bottom, right, top in pixels of words at `offset` points from the pixel `origin`."""
    x, y = (start + scale * step for start, step in zip(origin, offset, strict=True))
    left = x - width * (1 - np.sign(offset[0])) / 2
    bottom = y - height * (1 - np.sign(offset[1])) / 2
    return left, bottom, left + width, bottom + height


def _covered(axes: Axes, box: tuple[float, float, float, float], obstacles: NDArray[np.float64]) -> float:
    """The number of covered obstacles, plus a large penalty for a box outside the axes."""
    left, bottom, right, top = box
    frame, gap = axes.bbox, 4.0
    inside = (obstacles >= (left - gap, bottom - gap)) & (obstacles <= (right + gap, top + gap))
    leaves = bool(left < frame.x0 or bottom < frame.y0 or right > frame.x1 or top > frame.y1)
    return float(inside.all(axis=1).sum()) + 1e6 * leaves
