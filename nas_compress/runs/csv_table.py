"""Tables for spreadsheets: numbers stay numbers, and no text becomes a formula."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from pathlib import Path

from nas_compress.files import write_text

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""First characters of a text that a spreadsheet may compute."""


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write a table in one step.

    A missing value is an empty cell. A text that begins like a formula gets an apostrophe in front.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([_cell(name) for name in columns])
    writer.writerows([_cell(row.get(name)) for name in columns] for row in rows)
    write_text(path, text.getvalue())


def _cell(value: object) -> object:
    """Return a number as it is, and anything else as text.

    >>> [_cell(value) for value in (-1.5, "-1.5", "=A1", "resnet", ["=A1"])]
    [-1.5, "'-1.5", "'=A1", 'resnet', "['=A1']"]
    """
    if value is None or isinstance(value, Real):
        return value
    shown = str(value)
    return f"'{shown}" if shown.startswith(FORMULA) else shown
