"""Draw a table of compare.py, given its path: accuracy by criterion and training, one panel per ratio."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from matplotlib.lines import Line2D

from nas_compress.plots.canvas import Picture, sheet

COLORS = {"inherit": "#d95f02", "scratch_e": "#7570b3", "scratch_b": "#1b9e77"}
WORDS = {
    "inherit": "kept weights, fine-tuned",
    "scratch_e": "fresh weights, as many epochs",
    "scratch_b": "fresh weights, the teacher's compute",
}


def draw(table: Path) -> Path:
    """Write a picture next to the table and return its path."""
    rows = list(csv.DictReader(table.open()))
    ratios = sorted({row["ratio"] for row in rows})
    criteria = list(dict.fromkeys(row["criterion"] for row in rows))
    entries = [Line2D([], [], color=COLORS[way], marker="o", lw=0, label=WORDS[way]) for way in COLORS]
    caption = f"Mean and standard deviation over {rows[0]['seeds']} seeds, measured on the exported files."
    figure, axes = sheet(
        len(ratios), title=f"{rows[0]['data']}: accuracy on the validation split (%)", caption=caption, entries=entries
    )
    for panel, ratio in zip(axes, ratios, strict=True):
        for shift, way in zip((-0.2, 0.0, 0.2), COLORS, strict=True):
            own = [row for row in rows if row["ratio"] == ratio and row["way"] == way]
            panel.errorbar(
                [criteria.index(row["criterion"]) + shift for row in own],
                [100 * float(row["mean"]) for row in own],
                [100 * float(row["std"]) for row in own],
                fmt="o",
                color=COLORS[way],
                capsize=2,
            )
        panel.set_xlabel(f"{float(ratio):.0%} of the channels removed", fontsize=9)
        panel.set_xticks(range(len(criteria)), criteria, fontsize=8)
        panel.grid(axis="y", color="#dddddd", lw=0.6)
    picture = table.with_suffix(".png")
    Picture(figure=figure).save(picture)
    return picture


if __name__ == "__main__":
    print(draw(Path(sys.argv[1])))
