"""Lines on stdout and stderr, in any locale and without control characters."""

from __future__ import annotations

import io
import sys

import click

from nas_compress.errors import printable


def print_line(text: str, *, err: bool = False) -> None:
    """Print one line; control characters in it are escaped. err: print on stderr."""
    click.echo(printable(text), err=err)


def accept_any_text() -> None:
    """Let stdout and stderr escape characters that the locale's encoding lacks."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
