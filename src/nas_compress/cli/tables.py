"""Tables on stdout: aligned text for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import click

from nas_compress.front import Front, Point


def print_front(front: Front, members: Sequence[Point] | None = None, *, as_json: bool = False) -> None:
    """The front members (all, or only these) and the teacher, a row each."""
    shown_trials = {point.trial for point in (front.members if members is None else members)} | {"teacher"}
    rows = [row for row in front.to_rows() if row["trial"] in shown_trials]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    if not front.members:
        click.echo("the front has no members yet", err=True)
    shown = ["trial", "accuracy", "latency_ms", "size_bytes", "parameters", "macs"]
    searched = [name for name in front.columns if name not in {*shown, "model"}]
    knee = front.knee
    print_table(
        [*shown, *searched],
        [[_cell(name, row.get(name), knee) for name in [*shown, *searched]] for row in rows],
    )


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as they need; numbers to the right."""
    widths = [max(len(line[column]) for line in [header, *rows]) for column in range(len(header))]
    for line in [header, *rows]:
        cells = [
            text.rjust(width) if _numeric(text) else text.ljust(width) for text, width in zip(line, widths, strict=True)
        ]
        click.echo("  ".join(cells).rstrip())


def _cell(name: str, value: Any, knee: Point | None) -> str:
    if value is None:
        return "-"
    if name == "trial" and knee is not None and value == knee.trial:
        return f"{value} knee"
    if name == "accuracy":
        return f"{value:.4f}"
    if name == "latency_ms":
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _numeric(text: str) -> bool:
    return text.replace(",", "").replace(".", "").replace("-", "").isdigit()
