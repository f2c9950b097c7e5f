"""`export` and `measure`: take a model home, and measure any file by the same code."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command()
@click.argument("run")
@click.option("--trial", type=int, help="The trial's number.")
@click.option("--best", metavar="OBJECTIVE", help="The front member that is best in this figure.")
@click.option(
    "--where",
    multiple=True,
    metavar="CONDITION",
    help="Only members that keep it, such as 'size_bytes<=64000'.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="New folder for the bundle.")
def export(run: str, trial: int | None, best: str | None, where: tuple[str, ...], out: Path) -> None:
    """Write a trained student as a folder that stands alone.

    Example: nas-compress export digits --best accuracy --where 'size_bytes<=64000' --out small
    """
    from nas_compress.errors import RequestError
    from nas_compress.runs.bundle import export_bundle
    from nas_compress.runs.choose import best_member
    from nas_compress.runs.folder import open_run
    from nas_compress.runs.results import read_front

    folder = open_run(run)
    if trial is not None and best is None:
        if where:
            raise RequestError("--where goes with --best, but --trial was given")
        number = trial
    elif best is not None and trial is None:
        number = int(best_member(read_front(folder), best, where).trial)
    else:
        raise RequestError(f"exactly one of --trial and --best must be given, but got {'both' if best else 'neither'}")
    export_bundle(folder, number, out)
    click.echo(str(out))


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
    from nas_compress.spec.study_file import read_study
    from nas_compress.study.measure import measure as measure_file

    click.echo(json.dumps(measure_file(model, read_study(study), split=split), indent=2))
