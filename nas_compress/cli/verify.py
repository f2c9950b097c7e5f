"""The command `verify`: compare a run folder with its checksums and its figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from nas_compress.cli.terminal import print_line

if TYPE_CHECKING:
    from nas_compress.confirm.measured_again import MeasuredAgain


@click.command()
@click.argument("run")
@click.option("--fast", is_flag=True, help="Compare checksums only; measure nothing again.")
@click.option("--study", help="Your study file, for the figures of a run on your own data.")
@click.option("--json", "as_json", is_flag=True, help="JSON on stdout.")
def verify(run: str, fast: bool, study: str | None, as_json: bool) -> None:
    """Check that every file of a run is the one that was written, and that its figures are true.

    Records, models, the confirmation and the front are compared with their checksums. The models of the front and the
    teacher are then measured again on the validation data. Prints a line for each problem; exit code 1 if there is one.

    Example: nas-compress verify digits --fast
    """
    from nas_compress.config.study_file import read_study
    from nas_compress.config.user_code_files import named_code
    from nas_compress.confirm.measured_again import measure_files_again, needs_study
    from nas_compress.errors import RequestError, RunError
    from nas_compress.files import json_text
    from nas_compress.runs.checks.verify import verify_files
    from nas_compress.runs.folder import open_run
    from nas_compress.runs.results import make_front

    if fast and study is not None:
        raise RequestError("--study must be given without --fast, which measures nothing")
    own = None if study is None else read_study(study)
    folder = open_run(run)
    found = verify_files(folder)
    again: Sequence[MeasuredAgain] = ()
    if not fast and needs_study(folder) and own is None:
        found.notes.append("the figures are not measured again: data of your own code need --study")
    elif not fast and own is not None and not found.records and not found.problems:
        found.notes.append("no figures are measured again: no trial is finished")
    elif not fast and not found.problems:
        if own is not None:
            for code in named_code(replace(own, candidate=found.records[0].outcome.candidate)):
                print_line(str(code), err=True)
        front = make_front(folder.spec(), folder.chance(), found.teacher, found.records)
        members = {point.trial for point in front.members}
        chosen = [record for record in found.records if record.trial in members]
        again = measure_files_again(folder, chosen, found.teacher, own=own, notice=found.notes.append)
        found.problems += [line for each in again for line in each.differences]
    elif not fast:
        found.notes.append("the figures are not measured again because of the problems above")
    summary = (
        f"{folder.spec().name}: {len(found.records)} records, {found.files} files compared with their SHA-256, "
        f"{_again_words(again)}{len(found.problems) or 'no'} problem{'s' if len(found.problems) != 1 else ''}"
    )
    if as_json:
        values = {
            "run": str(folder.root),
            "records": len(found.records),
            "files": found.files,
            "measured": [_as_values(each) for each in again],
            "problems": found.problems,
            "notes": found.notes,
        }
        click.echo(json_text(values))
    else:
        for line in (*found.problems, *found.notes, *([] if found.problems else [summary])):
            print_line(line)
    if found.problems:
        raise RunError(summary)


def _as_values(again: MeasuredAgain) -> dict[str, object]:
    """Return the figures of one file for JSON; those of named devices only if there are any."""
    devices = {"device_latency_ratios": again.device_ratios, "device_agreements": again.device_agreements}
    given = {name: dict(values) for name, values in devices.items() if values}
    return {"model": again.name, **again.figures, "latency_ratio": again.latency_ratio, **given}


def _again_words(again: Sequence[MeasuredAgain]) -> str:
    if not again:
        return ""
    ratios = [each.latency_ratio for each in again if each.latency_ratio is not None]
    spans = [f", latency {_span(ratios)} times the recorded"] if ratios else []
    for device in sorted({name for each in again for name in each.device_ratios}):
        found = [each.device_ratios[device] for each in again if device in each.device_ratios]
        spans.append(f", on {device} {_span(found)}")
    return f"{len(again)} files measured again{''.join(spans)}, "


def _span(ratios: Sequence[float]) -> str:
    return f"{min(ratios):.2f} to {max(ratios):.2f}"
