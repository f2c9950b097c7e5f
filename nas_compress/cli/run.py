"""`nas-compress run`: the search, with its progress."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("study")
@click.option("--trials", type=click.IntRange(min=1), help="Total of trials, over all runs of this study.")
@click.option("--storage", metavar="URL", help="Optuna storage URL instead of the journal in the run folder.")
@click.option(
    "--shared",
    metavar="FOLDER|s3://BUCKET/PREFIX",
    help="With --storage: what all hosts reach, and through which they get each other's files.",
)
@click.option(
    "--on",
    metavar="dask|ADDRESS",
    help="With --storage and --shared: on that many workers of a local Dask cluster, or of a scheduler's.",
)
@click.option(
    "--workers", type=click.IntRange(min=1), default=1, help="Processes that train at the same time, one thread each."
)
@click.option("--out", type=click.Path(path_type=Path), help="Run folder; runs/<study name> if not given.")
@click.option("--quiet", is_flag=True, help="Nothing on stderr but errors; run.log in the run folder tells it all.")
def run(
    study: str,
    trials: int | None,
    storage: str | None,
    shared: str | None,
    on: str | None,
    workers: int,
    out: Path | None,
    quiet: bool,
) -> None:
    """Search to the total of trials; the same command goes on.

    It may be stopped at any time: what is finished is kept and never repeated.

    Example: nas-compress run digits --trials 40
    """
    from nas_compress.cli.progress_bar import make_reporter
    from nas_compress.cli.tables import print_front
    from nas_compress.config.study_file import read_study
    from nas_compress.search.dask import run_on_dask
    from nas_compress.search.run import default_folder, run_study

    file = read_study(study)
    with make_reporter(quiet=quiet) as reporter:
        if on is not None:
            front = run_on_dask(
                study, on=on, out=out, trials=trials, storage=storage, shared=shared, workers=workers, reporter=reporter
            )
        else:
            front = run_study(
                file, out=out, trials=trials, storage=storage, shared=shared, workers=workers, reporter=reporter
            )
    print_front(front)
    if not quiet:
        click.echo(f"front: {(out or default_folder(file)) / 'front.png'}", err=True)
