"""Commands that print or draw the content of a run folder: `status`, `show`, `plot` and `report`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from nas_compress.cli.opened_run import opened_run
from nas_compress.cli.terminal import print_line

if TYPE_CHECKING:
    from nas_compress.runs.folder import RunFolder
    from nas_compress.runs.records import Record
    from nas_compress.values.outcome import Measured

Command = TypeVar("Command", bound=Callable[..., object])

best_option: Callable[[Command], Command] = click.option(
    "--best",
    multiple=True,
    metavar="METRIC",
    help="The front member with the best value of this metric; repeatable.",
)

where_option: Callable[[Command], Command] = click.option(
    "--where",
    multiple=True,
    metavar="CONDITION",
    help="Only members that satisfy it, such as 'accuracy>=0.9'; repeatable.",
)


@click.command()
@click.argument("run")
@click.option("--json", "as_json", is_flag=True, help="JSON on stdout.")
def status(run: str, as_json: bool) -> None:
    """Print the progress of a run.

    Example: nas-compress status digits
    """
    from nas_compress.files import json_text
    from nas_compress.runs.records import read_records
    from nas_compress.runs.results import read_front
    from nas_compress.runs.saved_epochs import savings
    from nas_compress.runs.versions import several_versions, version_groups

    folder = opened_run(run)
    records, front = read_records(folder), read_front(folder)
    saved = savings(records, front)
    states = Counter("repeated" if record.repeats is not None else record.outcome.state for record in records)
    values = {
        "study": folder.spec().name,
        "folder": str(folder.root),
        "trials": len(records),
        "planned": folder.spec().trials,
        "states": dict(states),
        "front": len(front.members),
        "hypervolume": round(front.hypervolume(), 6) if front.teacher and front.reference else None,
        "stopping": asdict(saved),
        "noisy_latencies": sum(bool(r.outcome.measured and r.outcome.measured.any_noisy) for r in records),
        **({"conditions": front.all_conditions} if front.all_conditions else {}),
        "budgets": [str(budget) for budget in front.budgets],
        "failures": {r.trial: r.outcome.reason for r in records if r.outcome.state == "failed"},
        "versions": [{"versions": known, "trials": trials} for known, trials in version_groups(records)],
    }
    if as_json:
        click.echo(json_text(values))
        return
    counts = ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in states.items()) or "none finished"
    print_line(
        f"{values['study']}: {len(records)} of {values['planned']} trials ({counts}), front of {len(front.members)}"
    )
    if values["hypervolume"] is not None:
        print_line(f"hypervolume {values['hypervolume']:.4f}")
    if front.all_conditions:
        print_line(f"latency: {front.all_conditions}")
    for budget in front.budgets:
        print_line(f"budget: {budget}")
    if saved.stopped or saved.would_stop:
        print_line(str(saved))
    if several := several_versions(records):
        print_line(several)
    for record in records:
        if record.outcome.state == "failed":
            print_line(f"trial {record.trial} failed: {record.outcome.reason}")


@click.command()
@click.argument("run")
@best_option
@where_option
@click.option("--trial", type=int, help="Print a single trial, with its bytes step by step.")
@click.option("--json", "as_json", is_flag=True, help="JSON on stdout.")
def show(run: str, best: tuple[str, ...], where: tuple[str, ...], trial: int | None, as_json: bool) -> None:
    """Print the front, one row per member, and the teacher.

    Members trained with zeros also show the fraction of zeros among the weights of their file.

    Example: nas-compress show digits --where 'accuracy>=0.9'
    """
    from nas_compress.cli.tables import print_front
    from nas_compress.errors import RequestError
    from nas_compress.runs.bundle import trained_record
    from nas_compress.runs.inherited_weights import origin_notes
    from nas_compress.runs.records import read_records
    from nas_compress.runs.results import read_front, zero_fractions
    from nas_compress.runs.selection import chosen_members
    from nas_compress.runs.speed_notes import speed_notes
    from nas_compress.runs.versions import several_versions

    if trial is not None and (best or where):
        raise RequestError("--trial must be given alone, but got --best or --where too")
    folder = opened_run(run)
    if trial is not None:
        print_trial(folder, trained_record(folder, trial), as_json=as_json)
        return
    front = read_front(folder)
    chosen = chosen_members(front, best=best, where=where, everything=not best) if best or where else front.members
    records = read_records(folder)
    versions = {record.trial: record.versions for record in records}
    print_front(front, chosen, zeros=zero_fractions(records), versions=versions, as_json=as_json)
    if not as_json:
        if several := several_versions(records):
            print_line(several)
        members = [point.trial for point in chosen]
        for note, trials in [*origin_notes(records, members).items(), *speed_notes(records, members).items()]:
            print_line(f"trial {', '.join(map(str, trials))}: {note}")


@click.command()
@click.argument("run")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Picture to write (.png, .svg, .pdf); default: front.png in the run folder.",
)
def plot(run: str, out: Path | None) -> None:
    """Draw the Pareto plots and the history of the hypervolume.

    Example: nas-compress plot digits --out front.svg
    """
    from nas_compress.runs.results import draw

    for path in draw(opened_run(run), out):
        print_line(str(path))


@click.command()
@click.argument("run")
@click.option("--out", type=click.Path(path_type=Path), help="Page to write; default: report.html in the run folder.")
def report(run: str, out: Path | None) -> None:
    """Write the run as one self-contained HTML page.

    It has the front in linked panels, a table of all trials, a card for each member, parameter importances, and
    failures with their reasons.

    Example: nas-compress report digits
    """
    from nas_compress.report.page import write_report

    folder = opened_run(run)
    page = out or folder.root / "report.html"
    write_report(folder, page)
    print_line(str(page))


def print_trial(folder: RunFolder, record: Record, *, as_json: bool = False) -> None:
    """Print one trained trial: figures, parameters, speed against float32, bytes step by step."""
    from nas_compress.cli.tables import print_table
    from nas_compress.files import json_text
    from nas_compress.runs.front import conditions_in_words
    from nas_compress.runs.results import byte_steps
    from nas_compress.runs.speed_notes import NOT_COMPARED, speed_notes
    from nas_compress.values.exits.words import exits_in_words

    outcome, measured, steps = record.outcome, record.outcome.measured, byte_steps(folder, record)
    spec = folder.spec()
    conditions = conditions_in_words({"": spec.target.settings.conditions, **dict(spec.device_conditions)})
    if as_json:
        known = {"trial": record.trial, "params": dict(record.params), "candidate": outcome.candidate.to_dict()}
        known |= {"number_format": outcome.number_format, "versions": dict(record.versions)}
        known |= {"conditions": conditions} if conditions else {}
        figures = {} if measured is None else measured.to_dict()
        click.echo(json_text(known | {"measured": figures, "bytes": dict(steps), "model": record.model}))
        return
    print_line(f"trial {record.trial}, {record.model}, {outcome.number_format}")
    print_line(", ".join(f"{name} {value}" for name, value in record.params.items()))
    if measured is not None:
        print_line(_figures_line(measured) + (f"; latency: {conditions}" if conditions else ""))
        if measured.exits is not None:
            for line in exits_in_words(measured.exits).splitlines():
                print_line(line)
        notes = [note for note in speed_notes([record], [record.trial]) if note != NOT_COMPARED]
        if measured.float32_latency_ms is not None and not notes:
            notes = ["not slower than its float32 version"]
        for note in notes:
            print_line(note)
    if steps:
        print_line("")
        rows = [[name, f"{size:,}", f"{steps[0][1] / size:.1f}"] for name, size in steps]
        print_table(["bytes, step by step", "bytes", "times smaller"], rows)


def _figures_line(measured: Measured) -> str:
    from nas_compress.values.metrics.table import METRICS

    known = [METRICS[name] for name in METRICS if name in measured.figures]
    words = [f"{metric.label} {metric.cell(measured.figures[metric.name])} {metric.unit}".strip() for metric in known]
    float32 = measured.float32_latency_ms
    return ", ".join(words) + ("" if float32 is None else f" ({float32:.4f} ms in float32)")
