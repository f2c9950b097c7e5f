"""A picture as a value: notebooks show it, and it can be saved."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from nas_compress.plots import canvas


@dataclass(frozen=True)
class Picture:
    """A drawn matplotlib figure, to be changed further if you like; a notebook shows it as the value of a cell."""

    figure: Figure

    def save(self, path: Path | str) -> None:
        """Write the picture (.png, .svg or .pdf) in one step. RequestError for another suffix."""
        place = Path(path)
        canvas.require_picture(place)
        canvas.save(self.figure, place)

    def png(self) -> bytes:
        """The picture as the bytes of a .png file."""
        content = io.BytesIO()
        self.figure.savefig(content, format="png", dpi=canvas.DPI)
        return content.getvalue()

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        return self.png()
