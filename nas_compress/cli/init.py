"""`nas-compress init`: a study and a space of one's own."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--data", default="digits", show_default=True, help="A built-in data set, or your own: my_data:load.")
@click.option("--model", metavar="MODULE:CALLABLE", help="Your own teacher; without it one is trained.")
@click.option("--weights", type=click.Path(path_type=Path), help="Its weights; ./teacher.safetensors if not given.")
@click.option("--space", help="The built-in space to start from; one that fits the images if not given.")
def init(folder: Path, data: str, model: str | None, weights: Path | None, space: str | None) -> None:
    """Write a commented study and search space of your own.

    They run as they are. Modules are looked for in DIR and in the folder in which you give the commands.

    Example: nas-compress init mine --model my_models:build --data my_data:load
    """
    from nas_compress.search.starter_study import Starter, write_starter

    starter = Starter(folder=folder, data=data, model=model, weights=weights, space=space)
    for path in write_starter(starter):
        click.echo(str(path))
    click.echo(f"next: nas-compress check {folder}", err=True)
