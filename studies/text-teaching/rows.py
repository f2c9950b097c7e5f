"""Rows of results in CSV files, for compare.py and encoders.py."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Sequence
from pathlib import Path

from nas_compress.files import write_bytes

Row = dict[str, str]


def read(path: Path) -> list[Row]:
    """Return the rows of a file; none if there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Write all rows at once."""
    written = io.StringIO()
    table = csv.DictWriter(written, columns, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_bytes(path, written.getvalue().encode())


def gains(rows: dict[str, Row], control: dict[str, Row]) -> list[float]:
    """Return the differences in accuracy of the seeds that both have. rows, control: by seed."""
    return [float(row["accuracy"]) - float(control[seed]["accuracy"]) for seed, row in rows.items() if seed in control]


def spread(values: Sequence[float]) -> tuple[str, str]:
    """Return mean and standard deviation as far as there are any."""
    if not values:
        return "", ""
    return f"{statistics.mean(values):.4f}", f"{statistics.stdev(values):.4f}" if len(values) > 1 else ""
