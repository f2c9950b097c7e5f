"""Entry point: exit code 0 done, 1 the run failed or was stopped, 2 the request was wrong."""

from __future__ import annotations

import errno
import os
import signal
import sys
from types import FrameType

import click

from nas_compress import __version__
from nas_compress.cli.check import check
from nas_compress.cli.listing import list_command
from nas_compress.cli.look import plot, show, status
from nas_compress.cli.run import run
from nas_compress.cli.take import export, measure
from nas_compress.errors import RequestError, RunError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="nas-compress")
def commands() -> None:
    """Search small, fast students of a trained network; every point is trained from scratch and measured on its file.

    STUDY is a study.toml, its folder, or a built-in name; RUN is a run folder or a study's name.

    Example: nas-compress run digits
    """


for command in (check, run, status, show, plot, export, measure, list_command):
    commands.add_command(command)


def main() -> None:
    """Run the command line and leave with its exit code."""
    # threads that spin while they wait take the core that another program holds; torch reads this when it is loaded
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(_run())


def _run() -> int:
    try:
        commands.main(standalone_mode=False)
    except click.exceptions.Exit as leave:
        return leave.exit_code
    except click.ClickException as error:
        error.show()
        return 2
    except RequestError as error:
        return _fail(str(error), 2)
    except RunError as error:
        return _fail(str(error), 1)
    except (KeyboardInterrupt, click.Abort):
        return _fail("stopped; the same command goes on from here", 1)
    except OSError as error:
        return _fail(_disk_line(error), 1)
    return 0


def _fail(line: str, code: int) -> int:
    click.echo(f"nas-compress: {line}", err=True)
    return code


def _disk_line(error: OSError) -> str:
    place = f" ({error.filename})" if error.filename else ""
    if error.errno == errno.ENOSPC:
        return f"there must be space on the disk, but it is full{place}; free some and give the same command again"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"the folder must be writable, but permission was denied{place}"
    return f"{type(error).__name__}: {error}"


def _terminate(number: int, frame: FrameType | None) -> None:
    """SIGTERM ends like Ctrl-C: the trial at hand is given back, files stay whole."""
    raise KeyboardInterrupt
