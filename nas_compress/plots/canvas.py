"""Figures without a window or global state: the sheet of panels, and the picture as a value."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nas_compress.errors import RequestError
from nas_compress.files import write_atomically
from nas_compress.plots.matplotlib_isolation import default_settings

DPI = 150
SUFFIXES = (".png", ".svg", ".pdf")

# Inches.
_WIDTH, _PANEL = 10.0, 3.7
_TOP, _LINE, _LEFT, _RIGHT, _UNDER = 0.42, 0.21, 0.72, 0.12, 0.55
_PER_LINE = 4
_CAPTION = 145  # characters


@dataclass(frozen=True)
class Picture:
    """A figure drawn and saved with matplotlib's own settings. A notebook shows it as the value of a cell."""

    figure: Figure

    @default_settings()
    def save(self, path: Path | str) -> None:
        """Write the picture (.png, .svg or .pdf) in one step; RequestError for another suffix."""
        place = Path(path)
        require_picture(place)
        kind = place.suffix.lower().removeprefix(".")
        write_atomically(place, lambda temporary: self.figure.savefig(temporary, format=kind, dpi=DPI))

    @default_settings()
    def png(self) -> bytes:
        """The picture as the bytes of a .png file."""
        content = io.BytesIO()
        self.figure.savefig(content, format="png", dpi=DPI)
        return content.getvalue()

    def _repr_png_(self) -> bytes:
        """The picture in a notebook."""
        return self.png()


def require_picture(path: Path) -> None:
    """Raise RequestError unless the path has the suffix of a supported picture format."""
    if path.suffix.lower() not in SUFFIXES:
        raise RequestError(f"a plot must end in {', '.join(SUFFIXES)}, but got {path.name!r}")


def sheet(panels: int, *, title: str, caption: str, entries: Sequence[Artist]) -> tuple[Figure, list[Axes]]:
    """A sheet 10 inches wide: title, up to three panels per row, legend and caption.

    Panels are in row order. Long caption lines are wrapped.
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


def plain(axes: Axes) -> None:
    """Remove decoration that carries no information and draw a faint grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#E4E4E4", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8.5)


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
