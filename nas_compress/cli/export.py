"""`export` and `measure`: take a model home, and measure any file by the same code."""

from __future__ import annotations

import json
from pathlib import Path

import click

from nas_compress.cli.selecting import all_option, best_option, where_option


@click.command()
@click.argument("run")
@click.option("--trial", type=int, multiple=True, help="A trial by its number; may be given several times.")
@best_option
@where_option
@all_option
@click.option("--out", type=click.Path(path_type=Path), required=True, help="New folder for the bundle.")
def export(
    run: str, trial: tuple[int, ...], best: tuple[str, ...], where: tuple[str, ...], everything: bool, out: Path
) -> None:
    """Write a trained student as a folder that stands alone.

    Without --trial, --best and --all it is the knee of the front, the balanced choice. Several students go
    into folders of their own in --out, named after their trials.

    Example: nas-compress export digits --best latency_ms --where 'accuracy>=0.9' --out small
    """
    from nas_compress.errors import RequestError
    from nas_compress.runs.bundle import export_bundles
    from nas_compress.runs.folder import open_run
    from nas_compress.runs.results import read_front
    from nas_compress.runs.selection import chosen_members

    folder = open_run(run)
    if trial and (best or where or everything):
        raise RequestError("--trial chooses alone, but --best, --where or --all was given too")
    trials = trial or tuple(
        int(point.trial) for point in chosen_members(read_front(folder), best=best, where=where, everything=everything)
    )
    alone = not everything and max(len(trial), len(best)) < 2
    for path in export_bundles(folder, {number: out if alone else out / f"trial-{number}" for number in trials}):
        click.echo(str(path))


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--study", required=True, help="The study whose data it is measured on.")
@click.option(
    "--split",
    type=click.Choice(["validation", "test"]),
    default="validation",
    help="test is held out from every search: read it once, for a model that is chosen.",
)
def measure(model: Path, study: str, split: str) -> None:
    """Measure any ONNX file by the code that measures trials.

    Prints its accuracy on the study's data, its latency and its size as JSON.

    Example: nas-compress measure small/model.onnx --study digits
    """
    from nas_compress.config.study_file import read_study
    from nas_compress.search.measure import measure as measure_file

    click.echo(json.dumps(measure_file(model, read_study(study), split=split), indent=2))
