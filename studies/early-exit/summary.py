"""Summary of the comparisons: rows of all seeds as CSV, their means as a Markdown table, and a picture."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev

import matplotlib.pyplot as plt
from settings import FITS

HERE = Path(__file__).parent
COLOURS = ("#0072B2", "#D55E00", "#CC79A7", "#009E73")

Row = Mapping[str, str]
Group = tuple[str, str, str, str]
"""Network, exits, confidence and stated loss; the last three are empty without exits."""


def write_rows(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write rows with the columns of all of them."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def summarise(data: str, out: Path) -> None:
    """Write the rows of all seeds and a picture of their means into the study, and print the table of the means."""
    rows = [row for path in sorted(out.glob("seed-*.csv")) for row in csv.DictReader(path.open())]
    write_rows(HERE / f"{data}.csv", rows)
    groups: dict[Group, list[Row]] = {}
    for row in rows:
        given = [row.get(name) or "" for name in ("exits", "confidence", "may_lose")]
        groups.setdefault((row["network"], given[0], given[1], given[2]), []).append(row)
    names = (
        "network",
        "may lose, %",
        "test, %",
        "multiply-adds, M",
        "mean, us",
        "median, us",
        "p95, us",
        "forecast, us",
    )
    print(f"| {' | '.join(names)} | n |\n|{'---|' * (len(names) + 1)}")
    for (network, exits, confidence, loss), found in groups.items():
        name = f"{exits}, {confidence}" if exits else network
        cells = [name, f"{100 * float(loss):g}" if loss else "", _cell(found, "test", 100, digits=2)]
        cells.append(_cell(found, "macs", 1e-6, digits=2))
        cells += [_cell(found, key, 1, digits=0) for key in ("mean_us", "p50_us", "p95_us", "forecast_us")]
        print(f"| {' | '.join(cells)} | {len(found)} |")
    draw(HERE / f"{data}.png", groups)


def draw(path: Path, groups: Mapping[Group, Sequence[Row]]) -> None:
    """Draw means over seeds: a curve for each kind of exits, and a bar from each mean latency to the p95."""
    figure, panel = plt.subplots(figsize=(8, 5))
    _curve(panel, [rows for key, rows in groups.items() if not key[1]], "s", "black", "without exits")
    for (fit, each), colour in zip(FITS.items(), COLOURS, strict=True):
        shown = [rows for key, rows in groups.items() if key[1:3] == (fit, each.confidences[0])]
        _curve(panel, shown, "o", colour, f"exits, {fit}")
    panel.set_xlabel("mean latency (us), thin line to the 95th percentile")
    panel.set_ylabel("test accuracy (%), with the spread of the seeds")
    panel.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _curve(panel: plt.Axes, groups: Sequence[Sequence[Row]], mark: str, colour: str, label: str) -> None:
    ordered = sorted(groups, key=lambda rows: fmean(_numbers(rows, "mean_us")))
    mean, tail = ([fmean(_numbers(rows, name)) for rows in ordered] for name in ("mean_us", "p95_us"))
    test = [100 * fmean(_numbers(rows, "test")) for rows in ordered]
    spread = [100 * _spread(_numbers(rows, "test")) for rows in ordered]
    panel.errorbar(mean, test, yerr=spread, fmt=f"{mark}-", color=colour, label=label, markersize=4, capsize=2)
    panel.hlines(test, mean, tail, color=colour, linewidth=0.6, alpha=0.5)


def _cell(rows: Sequence[Row], name: str, factor: float, *, digits: int) -> str:
    numbers = [factor * each for each in _numbers(rows, name)]
    return f"{fmean(numbers):.{digits}f} ± {_spread(numbers):.{digits}f}" if numbers else ""


def _numbers(rows: Sequence[Row], name: str) -> list[float]:
    return [float(row[name]) for row in rows if row.get(name)]


def _spread(numbers: Sequence[float]) -> float:
    return stdev(numbers) if len(numbers) > 1 else 0.0
