"""The command `run`: search and show the progress."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from nas_compress.cli.terminal import print_line


def _workers(context: click.Context, parameter: click.Parameter, given: str) -> int | Literal["auto"]:
    """Return the number of workers, or `auto`."""
    if given == "auto":
        return "auto"
    if not given.isdecimal() or int(given) < 1:
        raise click.BadParameter(f"a number >= 1 or auto must be given, but got {given!r}")
    return int(given)


workers_option = click.option(
    "--workers",
    metavar="NUMBER|auto",
    callback=_workers,
    envvar="NAS_COMPRESS_WORKERS",
    default="auto",
    help="Processes that train at the same time, one thread each. Default: the environment variable "
    "NAS_COMPRESS_WORKERS, or auto: one per physical core, if the memory permits it. With 1, the run itself trains.",
)
"""Number of training processes of a run."""


@click.command()
@click.argument("study")
@click.option("--trials", type=click.IntRange(min=1), help="Total number of trials over all runs of this study.")
@click.option(
    "--storage",
    metavar="URL",
    envvar="NAS_COMPRESS_STORAGE",
    help="Optuna storage URL; default: the environment variable NAS_COMPRESS_STORAGE, or a journal in the run folder.",
)
@click.option(
    "--shared",
    metavar="FOLDER|s3://BUCKET/PREFIX",
    help="With --storage: folder or bucket through which all hosts exchange files.",
)
@click.option(
    "--on",
    metavar="dask|ADDRESS",
    help="With --storage and --shared: run --workers hosts on a local Dask cluster, or on that of a scheduler.",
)
@workers_option
@click.option("--out", type=click.Path(path_type=Path), help="Run folder; default: runs/<study name>.")
@click.option("--quiet", is_flag=True, help="Print errors only; run.log in the run folder has every line.")
def run(
    study: str,
    trials: int | None,
    storage: str | None,
    shared: str | None,
    on: str | None,
    workers: int | Literal["auto"],
    out: Path | None,
    quiet: bool,
) -> None:
    """Search until the total of trials is reached; the same command continues after any stop.

    Finished trials are kept and never repeated.

    Example: nas-compress run digits --trials 40
    """
    from nas_compress.cli.progress_bar import make_reporter
    from nas_compress.cli.tables import print_front
    from nas_compress.config.study_file import read_study
    from nas_compress.config.user_code_files import named_code
    from nas_compress.search.run import default_folder, run_study
    from nas_compress.search.workers.dask import run_on_dask

    file = read_study(study)
    with make_reporter(quiet=quiet) as reporter:
        if on is not None:
            for code in named_code(file):
                reporter.say(str(code))
            front = run_on_dask(
                study,
                on=on,
                out=out,
                trials=trials,
                storage=storage,
                shared=shared,
                workers=1 if workers == "auto" else workers,
                reporter=reporter,
            )
        else:
            front = run_study(
                file, out=out, trials=trials, storage=storage, shared=shared, workers=workers, reporter=reporter
            )
    print_front(front)
    if not quiet:
        print_line(f"front: {(out or default_folder(file)) / 'front.png'}", err=True)
