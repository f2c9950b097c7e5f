"""The command `export`: write a student as a bundle."""

from __future__ import annotations

from pathlib import Path

import click

from nas_compress.cli.opened_run import opened_run
from nas_compress.cli.show import best_option, where_option
from nas_compress.cli.terminal import print_line


@click.command()
@click.argument("run")
@click.option("--trial", type=int, multiple=True, help="A trial by its number; repeatable.")
@best_option
@where_option
@click.option("--all", "everything", is_flag=True, help="Every front member, or every one that satisfies --where.")
@click.option("--exit-point", type=int, help="Thresholds of --trial by their number in `show RUN --trial N`.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="New folder for the bundle.")
def export(
    run: str,
    trial: tuple[int, ...],
    best: tuple[str, ...],
    where: tuple[str, ...],
    everything: bool,
    exit_point: int | None,
    out: Path,
) -> None:
    """Write a trained student as a self-contained folder.

    Default: the knee of the front, the balanced choice. Several students get a subfolder of --out each, named after
    their trials. A front member may be a trained network with early exits at one of its exit points.

    Example: nas-compress export digits --best latency_ms --where 'accuracy>=0.9' --out small
    """
    from nas_compress.errors import RequestError
    from nas_compress.runs.bundle import Chosen, export_bundles
    from nas_compress.runs.results import read_front
    from nas_compress.runs.selection import chosen_members

    folder = opened_run(run)
    if trial and (best or where or everything):
        raise RequestError("--trial must be given alone, but got --best, --where or --all too")
    if exit_point is not None and len(trial) != 1:
        raise RequestError("--exit-point must be given with one --trial, whose thresholds it names")
    if trial:
        wanted = [(number, exit_point) for number in trial]
    else:
        members = chosen_members(read_front(folder), best=best, where=where, everything=everything)
        wanted = [(int(point.trial), point.exit_point) for point in members]
    alone = not everything and max(len(trial), len(best)) < 2
    places: dict[Chosen, Path] = {each: out if alone else out / _name(*each) for each in wanted}
    for path in export_bundles(folder, places):
        print_line(str(path))


def _name(trial: int, exit_point: int | None) -> str:
    return f"trial-{trial}" + ("" if exit_point is None else f"-exit-point-{exit_point}")
