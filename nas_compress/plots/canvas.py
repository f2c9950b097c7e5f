"""A figure without a window and without global state: its sheet of panels, and how it reaches the disk."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nas_compress.errors import RequestError
from nas_compress.files import write_atomically

DPI = 150
SUFFIXES = (".png", ".svg", ".pdf")

# Inches.
_WIDTH, _PANEL = 10.0, 3.7
_TOP, _LINE, _LEFT, _RIGHT, _UNDER = 0.42, 0.21, 0.72, 0.12, 0.55
_PER_LINE = 4
_CAPTION = 145  # characters


def require_picture(path: Path) -> None:
    """Raise RequestError unless the path ends like a picture that can be written."""
    if path.suffix.lower() not in SUFFIXES:
        raise RequestError(f"a plot must end in {', '.join(SUFFIXES)}, but got {path.name!r}")


def save(figure: Figure, path: Path) -> None:
    """Write the figure in one step, in the format that the path's suffix names."""
    kind = path.suffix.lower().removeprefix(".")
    write_atomically(path, lambda temporary: figure.savefig(temporary, format=kind, dpi=DPI))


def sheet(panels: int, *, title: str, caption: str, entries: Sequence[Artist]) -> tuple[Figure, list[Axes]]:
    """A sheet 10 inches wide: a title, up to three panels a row, the legend's entries, and a caption.

    The panels come row by row; long lines of the caption are wrapped.
    """
    caption = "\n".join(textwrap.fill(line, _CAPTION) for line in caption.splitlines())
    columns = min(panels, 3)
    rows = -(-panels // columns)
    text = _LINE * (caption.count("\n") + 1) + 0.1
    legend = _LINE * -(-len(entries) // _PER_LINE) + 0.1 if entries else 0.0
    height = _TOP + rows * _PANEL + legend + text
    figure = Figure(figsize=(_WIDTH, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    figure.text(0.12 / _WIDTH, 1 - 0.14 / height, title, fontsize=12, fontweight="bold", va="top")
    figure.text(0.12 / _WIDTH, 0.1 / height, caption, fontsize=8, color="#444444", va="bottom", linespacing=1.4)
    if entries:
        _legend(figure, entries, text / height)
    axes = [_axes(figure, number, columns) for number in range(panels)]
    return figure, axes


def _legend(figure: Figure, entries: Sequence[Artist], bottom: float) -> None:
    figure.legend(
        handles=list(entries),
        loc="lower left",
        bbox_to_anchor=(0.0, bottom),
        ncols=_PER_LINE,
        frameon=False,
        fontsize=8.5,
        borderaxespad=0.2,
        columnspacing=1.6,
        handletextpad=0.4,
    )


def _axes(figure: Figure, number: int, columns: int) -> Axes:
    row, column = divmod(number, columns)
    height, wide = figure.get_figheight(), _WIDTH / columns
    bottom = height - _TOP - (row + 1) * _PANEL + _UNDER
    left, across, up = column * wide + _LEFT, wide - _LEFT - _RIGHT, _PANEL - _UNDER - 0.05
    return figure.add_axes((left / _WIDTH, bottom / height, across / _WIDTH, up / height))
