"""The commands `measure`, which measures any ONNX file, and `agent`, which makes another machine measure."""

from __future__ import annotations

from pathlib import Path

import click

from nas_compress.cli.terminal import print_line


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--study", help="The study with the data to measure on; without it only latency, size and memory.")
@click.option(
    "--split",
    type=click.Choice(["validation", "test"]),
    default="validation",
    help="`test` is held out from every search: read it once, for the final model.",
)
@click.option(
    "--device",
    help="A device of the study, as in `[device.NAME]`, or `openvino` and other kinds that need no table; by default "
    "the study's own one. Without --study, tables are those of the study.toml in the working folder.",
)
def measure(model: Path, study: str | None, split: str, device: str | None) -> None:
    """Measure any ONNX file with the code that measures trials.

    Prints the accuracy on the study's data, the latency and the size as JSON. Without a study, the file runs on random
    samples, and its accuracy is not known.

    Example: nas-compress measure small/model.onnx --study digits
    """
    from nas_compress.config.study_file import read_study
    from nas_compress.config.user_code_files import named_code
    from nas_compress.files import json_text
    from nas_compress.search.measure import measure as measure_file

    file = None if study is None else read_study(study)
    for code in () if file is None else named_code(file):
        print_line(str(code), err=True)
    click.echo(json_text(measure_file(model, file, split=split, device=device)))


@click.command()
@click.option("--write", "path", type=click.Path(path_type=Path), required=True, help="File to write or replace.")
def agent(path: Path) -> None:
    """Write the agent that measures ONNX files on another machine.

    It is one file, which needs Python 3.9, onnxruntime and numpy there. It opens no port: the command of a device, such
    as ssh, starts it. Prints how to restrict a key of ssh to it.

    Example: nas-compress agent --write agent.py
    """
    from nas_compress.devices.remote.agent_file import restricted_key, write_agent

    write_agent(path)
    print_line(f"{path} is written. Copy it into the home folder of the device. In ~/.ssh/authorized_keys there, put")
    print_line(restricted_key(path))
    print_line("before a public key made for this purpose: the key can then do nothing but start the agent.")
