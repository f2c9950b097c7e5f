"""The command `init`: write a starter study and search space."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from nas_compress.cli.terminal import print_line


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--data",
    default="digits",
    show_default=True,
    help="Built-in data set, your my_data:load, a folder of pictures or .wav files, a .csv, .tsv or .jsonl of texts.",
)
@click.option(
    "--model",
    metavar="MODULE:CALLABLE",
    help="Function that builds your teacher, timm:NAME, or a folder of Hugging Face; default: train one.",
)
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    help="Weights of your teacher (default: teacher.safetensors), or an ONNX or TorchScript file alone.",
)
@click.option(
    "--output", metavar="NAME", help="Output of your teacher with the logits, a name or a place, if it has several."
)
@click.option("--space", help="Built-in space to start from; default: one for the size of the images.")
def init(
    folder: Path, data: str, model: str | None, weights: Path | None, output: str | None, space: str | None
) -> None:
    """Write a commented study and search space of your own.

    Both run unchanged. Your modules are searched in DIR, then in the working folder.

    Example: nas-compress init mine --model my_models:build --data my_data:load
    """
    from nas_compress.cli.progress_bar import reading_shown
    from nas_compress.search.starter_study import Starter, write_starter

    with reading_shown() as progress:
        starter = Starter(
            folder=folder, data=data, model=model, weights=weights, output=output, space=space, progress=progress
        )
        written = write_starter(starter, lambda line: print_line(line, err=True))
    for path in written:
        print_line(str(path))
    print_line(f"next: nas-compress check {shlex.quote(str(folder))}", err=True)
