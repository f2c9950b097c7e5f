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
@click.option("--out", type=click.Path(path_type=Path), required=True, help="New folder for the bundle.")
def export(
    run: str, trial: tuple[int, ...], best: tuple[str, ...], where: tuple[str, ...], everything: bool, out: Path
) -> None:
    """Write a trained student as a self-contained folder.

    Default: the knee of the front, the balanced choice. Several students get a subfolder of --out each, named after
    their trials.

    Example: nas-compress export digits --best latency_ms --where 'accuracy>=0.9' --out small
    """
    from nas_compress.errors import RequestError
    from nas_compress.runs.bundle import export_bundles
    from nas_compress.runs.results import read_front
    from nas_compress.runs.selection import chosen_members

    folder = opened_run(run)
    if trial and (best or where or everything):
        raise RequestError("--trial must be given alone, but got --best, --where or --all too")
    trials = trial or tuple(
        int(point.trial) for point in chosen_members(read_front(folder), best=best, where=where, everything=everything)
    )
    alone = not everything and max(len(trial), len(best)) < 2
    for path in export_bundles(folder, {number: out if alone else out / f"trial-{number}" for number in trials}):
        print_line(str(path))
