"""The command `confirm`: retrain front members with new seeds, then read the test split once."""

from __future__ import annotations

import click

from nas_compress.cli.opened_run import opened_run
from nas_compress.cli.show import best_option, where_option


@click.command()
@click.argument("run")
@best_option
@where_option
@click.option("--seeds", type=click.IntRange(min=1), default=3, show_default=True, help="Trainings per member.")
@click.option(
    "--control",
    multiple=True,
    metavar="NAME",
    help="Also train this control: no_teacher, uniform_width, float32 or inherit; repeatable.",
)
@click.option("--controls", is_flag=True, help="Also train all four controls.")
@click.option("--study", help="Your own study file of the run, for its code; default: the folder recorded in run.json.")
@click.option("--json", "as_json", is_flag=True, help="JSON on stdout.")
def confirm(
    run: str,
    best: tuple[str, ...],
    where: tuple[str, ...],
    seeds: int,
    control: tuple[str, ...],
    controls: bool,
    study: str | None,
    as_json: bool,
) -> None:
    """Retrain front members with new seeds and read the test split once.

    Default: all members. Stop it at any time; the same command continues. The code of the study is loaded from its
    folder; a line names each file first.

    Example: nas-compress confirm digits --seeds 3 --where 'size_bytes<=64000'
    """
    from nas_compress.cli.progress_bar import make_reporter
    from nas_compress.cli.tables import print_confirmation
    from nas_compress.config.study_file import read_study
    from nas_compress.confirm.controls import CONTROLS
    from nas_compress.confirm.run import confirm_run
    from nas_compress.files import json_text
    from nas_compress.runs.results import draw, read_front
    from nas_compress.runs.selection import chosen_members

    folder = opened_run(run)
    own = None if study is None else read_study(study)
    members = chosen_members(read_front(folder), best=best, where=where, everything=not best)
    with make_reporter() as reporter:
        confirmation = confirm_run(
            folder,
            members,
            seeds=seeds,
            controls=tuple(CONTROLS) if controls else control,
            study=own,
            reporter=reporter,
        )
    draw(folder, None)
    if as_json:
        click.echo(json_text([vars(row) for row in confirmation.rows]))
    else:
        print_confirmation(confirmation)
