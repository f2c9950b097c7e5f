"""`status`, `show`, `plot`: what a run folder holds."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import click

from nas_compress.cli.selecting import best_option, where_option


@click.command()
@click.argument("run")
@click.option("--json", "as_json", is_flag=True, help="JSON on stdout.")
def status(run: str, as_json: bool) -> None:
    """Say how far a run is.

    Example: nas-compress status digits
    """
    from nas_compress.runs.folder import open_run
    from nas_compress.runs.records import read_records
    from nas_compress.runs.results import read_front
    from nas_compress.runs.savings import savings

    folder = open_run(run)
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
        "hypervolume": round(front.hypervolume(), 6) if front.teacher else None,
        "stopping": asdict(saved),
        "noisy_latencies": sum(bool(r.outcome.measured and r.outcome.measured.latency_noisy) for r in records),
        "failures": {r.trial: r.outcome.reason for r in records if r.outcome.state == "failed"},
    }
    if as_json:
        click.echo(json.dumps(values, indent=2))
        return
    counts = ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in states.items()) or "none finished"
    click.echo(
        f"{values['study']}: {len(records)} of {values['planned']} trials ({counts}), front of {len(front.members)}"
    )
    if values["hypervolume"] is not None:
        click.echo(f"hypervolume {values['hypervolume']:.4f}")
    if saved.stopped or saved.would_stop:
        click.echo(str(saved))
    for record in records:
        if record.outcome.state == "failed":
            click.echo(f"trial {record.trial} failed: {record.outcome.reason}")


@click.command()
@click.argument("run")
@best_option
@where_option
@click.option("--trial", type=int, help="One trial alone, with its bytes step by step.")
@click.option("--json", "as_json", is_flag=True, help="JSON on stdout.")
def show(run: str, best: tuple[str, ...], where: tuple[str, ...], trial: int | None, as_json: bool) -> None:
    """Print the front, a row a member, and the teacher.

    Members that were trained to have zeros show the fraction of 0 among their file's weights.

    Example: nas-compress show digits --where 'accuracy>=0.9'
    """
    from nas_compress.cli.tables import print_front
    from nas_compress.cli.trial_shown import print_trial
    from nas_compress.errors import RequestError
    from nas_compress.runs.bundle import trained_record
    from nas_compress.runs.folder import open_run
    from nas_compress.runs.records import read_records
    from nas_compress.runs.results import read_front, zero_fractions
    from nas_compress.runs.selection import chosen_members
    from nas_compress.runs.speed_notes import speed_notes

    if trial is not None and (best or where):
        raise RequestError("--trial chooses alone, but --best or --where was given too")
    folder = open_run(run)
    if trial is not None:
        print_trial(folder, trained_record(folder, trial), as_json=as_json)
        return
    front = read_front(folder)
    chosen = chosen_members(front, best=best, where=where, everything=not best) if best or where else front.members
    records = read_records(folder)
    print_front(front, chosen, zeros=zero_fractions(records), as_json=as_json)
    if not as_json:
        for note, trials in speed_notes(records, [point.trial for point in chosen]).items():
            click.echo(f"trial {', '.join(map(str, trials))}: {note}")


@click.command()
@click.argument("run")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Picture to write (.png, .svg, .pdf); the run's front.png if not given.",
)
def plot(run: str, out: Path | None) -> None:
    """Draw the Pareto plots and the history of the hypervolume.

    Example: nas-compress plot digits --out front.svg
    """
    from nas_compress.runs.folder import open_run
    from nas_compress.runs.results import draw

    click.echo("\n".join(str(path) for path in draw(open_run(run), out)))


@click.command()
@click.argument("run")
@click.option("--out", type=click.Path(path_type=Path), help="Page to write; the run's report.html if not given.")
def report(run: str, out: Path | None) -> None:
    """Write the run as one HTML page that needs nothing beside itself.

    It shows the front in linked panels, every trial in a table, a card for each front member, what decided what, and
    what went wrong.

    Example: nas-compress report digits
    """
    from nas_compress.report.page import write_report
    from nas_compress.runs.folder import open_run

    folder = open_run(run)
    page = out or folder.root / "report.html"
    write_report(folder, page)
    click.echo(str(page))
