"""Draw a table of compare.py, given its path: accuracy by latency, one colour per kind of shape."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from matplotlib.lines import Line2D

from nas_compress.plots.canvas import Picture, sheet

COLORS = {"uniform": "#1b9e77", "l1": "#d95f02", "bn_scale": "#7570b3", "taylor": "#e7298a"}


def draw(table: Path) -> Path:
    """Write a picture next to the table and return its path."""
    rows = list(csv.DictReader(table.open()))
    names = {shape: "uniformly narrower" if shape == "uniform" else f"pruned by {shape}" for shape in COLORS}
    entries = [Line2D([], [], color=color, marker="o", lw=0, label=names[shape]) for shape, color in COLORS.items()]
    caption = f"Mean and standard deviation over {rows[0]['seeds']} seeds, trained from scratch, measured on the files."
    widths = sorted({row["latency of width"] for row in rows})
    figure, axes = sheet(len(widths), title="accuracy on the validation split (%)", caption=caption, entries=entries)
    for panel, width in zip(axes, widths, strict=True):
        own = [row for row in rows if row["latency of width"] == width]
        for row in own:
            mean, deviation = 100 * float(row["mean"]), 100 * float(row["std"])
            panel.errorbar(
                float(row["latency_ms"]), mean, deviation, fmt="o", color=COLORS[row["shape"]], capsize=3, ms=6
            )
        panel.margins(x=0.2)
        panel.set_xlabel(f"latency (ms), shapes as fast as width {width}", fontsize=9)
        panel.grid(color="#dddddd", lw=0.6)
    picture = table.with_suffix(".png")
    Picture(figure=figure).save(picture)
    return picture


if __name__ == "__main__":
    print(draw(Path(sys.argv[1])))
