"""The run folder of a command, with one notice for each part of it that is ignored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas_compress.cli.terminal import print_line

if TYPE_CHECKING:
    from nas_compress.runs.folder import RunFolder


def opened_run(run: str) -> RunFolder:
    """Open a run by its folder or name; print its ignored folders on stderr."""
    from nas_compress.runs.folder import open_run
    from nas_compress.runs.records import ignored_folders

    folder = open_run(run)
    for line in ignored_folders(folder):
        print_line(f"nas-compress: {line}", err=True)
    return folder
