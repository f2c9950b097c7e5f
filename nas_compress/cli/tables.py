"""Tables on stdout: aligned text for people, JSON for programs."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, cast

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from nas_compress.cli.terminal import print_line
from nas_compress.errors import printable
from nas_compress.files import json_text
from nas_compress.runs.confirmation import Confirmation
from nas_compress.runs.front import Front
from nas_compress.values.front_point import Point
from nas_compress.values.metrics.table import METRICS

NO_FASTER = (
    "zeros: fraction of zero weights in the file. They do not reduce the latency: the runtime multiplies zeros too."
)


def print_front(
    front: Front,
    members: Sequence[Point] | None = None,
    *,
    zeros: Mapping[int | str, float] | None = None,
    versions: Mapping[int, Mapping[str, str]] | None = None,
    as_json: bool = False,
) -> None:
    """Print the front members and the teacher, one row each.

    members: all members if None. zeros: fraction of zero weights of the trials trained for zeros; adds a column if a
    member is one of them. versions: by trial, for JSON. JSON also has the latency in float32.
    """
    kept = {point.label for point in (front.members if members is None else members)} | {"teacher"}
    known = (*front.members, *((front.teacher,) if front.teacher else ()))
    rows = [row for point, row in zip(known, front.to_rows(), strict=True) if point.label in kept]
    shown_trials = {cast("int | str", row["trial"]) for row in rows}
    with_zeros = zeros is not None and not shown_trials.isdisjoint(zeros)
    if zeros is not None and with_zeros:
        rows = [{**row, "zeros": zeros.get(cast("int | str", row["trial"]))} for row in rows]
    if as_json:
        compared = {p.trial: p.float32_latency_ms for p in front.points if p.exit_point is None}
        values = [row | {"float32_latency_ms": compared.get(cast("int | str", row["trial"]))} for row in rows]
        if versions is not None:
            values = [row | {"versions": versions.get(cast("int", row["trial"]))} for row in values]
        click.echo(json_text(values))
        return
    if not front.members:
        print_line("the front has no members yet", err=True)
    shown = [name for name in front.fixed_columns if name not in ("model", "conditions")]
    searched = [name for name in front.columns if name not in front.fixed_columns]
    shown += ["zeros"] if with_zeros else []
    knee = front.knee
    header = [*shown, *searched]
    print_table(
        header,
        [[_cell(name, row.get(name), knee if _is(row, knee) else None) for name in header] for row in rows],
    )
    _print_conditions(front.all_conditions)
    if with_zeros:
        print_line(NO_FASTER)


def _is(row: Mapping[str, object], point: Point | None) -> bool:
    return point is not None and (row["trial"], row.get("exit_point")) == (point.trial, point.exit_point)


def _print_conditions(conditions: str) -> None:
    if conditions:
        print_line(f"latency: {conditions}")


def rich_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table with a line under its heading. In a pipe it has no colours and is 200 columns wide."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column, name in enumerate(header):
        numeric = all(line[column][:1].isdigit() and len(line[column]) < 12 for line in rows if line[column])
        table.add_column(name, justify="right" if numeric else "left")
    for line in rows:
        table.add_row(
            *(escape(printable(cell)) for cell in line), style="red" if any("OUT OF" in cell for cell in line) else None
        )
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(table, highlight=False)
    console.print()


def print_confirmation(confirmation: Confirmation) -> None:
    """Print every member and control over its seeds, the teacher, and the pairs within noise."""
    costs = [name for name in confirmation.columns if name in METRICS]
    header = ["trial", "role", "seeds", "validation", "validation again", "test", "test again", *costs]
    rows = [
        [
            str(row.label),
            row.role,
            f"{row.seeds}" + (f" ({row.failed} failed)" if row.failed else ""),
            _fraction(row.validation_search),
            _spread(row.validation_mean, row.validation_std),
            _fraction(row.test_shipped),
            _spread(row.test_mean, row.test_std),
            *(_cell(name, row.figures.get(name), None) for name in costs),
        ]
        for row in confirmation.rows
    ]
    validation, test = _fraction(confirmation.teacher_validation), _fraction(confirmation.teacher_test)
    print_table(header, [*rows, ["teacher", "-", "-", validation, "-", test, "-", *("-" for _ in costs)]])
    _print_conditions(confirmation.conditions)
    for one, other in confirmation.alike:
        print_line(f"trials {one} and {other} are within noise of each other on the test split")


def _fraction(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _spread(mean: float | None, std: float | None) -> str:
    return _fraction(mean) + (f" ± {std:.4f}" if std is not None else "")


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print aligned columns, numbers to the right."""
    lines = [[printable(cell) for cell in line] for line in [header, *rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    for line in lines:
        cells = [
            text.rjust(width) if _numeric(text) else text.ljust(width) for text, width in zip(line, widths, strict=True)
        ]
        print_line("  ".join(cells).rstrip())


def _cell(name: str, value: Any, knee: Point | None) -> str:
    if value is None:
        return "-"
    if name == "trial" and knee is not None and value == knee.trial:
        return f"{value} knee"
    if name in METRICS:
        return METRICS[name].cell(value)
    if name == "zeros":
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _numeric(text: str) -> bool:
    return text.replace(",", "").replace(".", "").replace("-", "").isdigit()
