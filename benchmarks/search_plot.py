"""Draw the output of `search.py --out replays.csv`: hypervolume against epochs, one panel per table.

python benchmarks/search_plot.py benchmarks/curves/replays.csv benchmarks/search.png
"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

DRAWN = {
    "tpe:none": ("#1f4e8c", "tpe, no rule"),
    "tpe:dominated": ("#3d9970", "tpe, dominated"),
    "tpe:moasha": ("#c9a227", "tpe, moasha"),
    "tpe:behind": ("#c0392b", "tpe, behind"),
    "ehvi:behind": ("#8e44ad", "ehvi, behind"),
    "ehvi:none": ("#111111", "ehvi, no rule"),
}
"""Colour and name of each line, from the back to the front."""

Line = list[tuple[float, float, float, float]]


def read(path: Path) -> dict[str, dict[str, Line]]:
    """Return (epochs, lower quartile, median, upper quartile) by table and pair."""
    found: dict[str, dict[str, Line]] = defaultdict(lambda: defaultdict(list))
    with path.open(newline="", encoding="utf-8") as handle:
        for table, pair, _, *numbers in csv.reader(handle):
            epochs, low, middle, high = map(float, numbers)
            found[table][pair].append((epochs, low, middle, high))
    return found


def main() -> None:
    source, target = map(Path, sys.argv[1:])
    found = read(source)
    figure, panels = pyplot.subplots(1, len(found), figsize=(5.4 * len(found), 3.4), squeeze=False)
    for axes, (table, lines) in zip(panels[0], found.items(), strict=True):
        for pair, (colour, name) in DRAWN.items():
            if pair not in lines:
                continue
            epochs, low, middle, high = zip(*lines[pair], strict=True)
            axes.plot(epochs, middle, color=colour, label=name, linewidth=1.6)
            if pair in ("tpe:none", "ehvi:none"):
                axes.fill_between(epochs, low, high, color=colour, alpha=0.12, linewidth=0)
        axes.set_title(f"{table}: medians, and quartiles of two", fontsize=10)
        axes.set_xlabel("epochs trained")
        axes.set_ylim(bottom=0.6)
        axes.grid(alpha=0.3)
    panels[0][0].set_ylabel("hypervolume, part of the whole front's")
    panels[0][-1].legend(fontsize=8, loc="lower right")
    figure.tight_layout()
    figure.savefig(target, dpi=90)


if __name__ == "__main__":
    main()
