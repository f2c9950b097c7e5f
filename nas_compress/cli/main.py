"""Entry point of the command line. Exit codes: 0 done, 1 failed or stopped, 2 invalid request."""

from __future__ import annotations

import errno
import os
import signal
import sys
from pathlib import Path
from types import FrameType

import click

from nas_compress import __version__
from nas_compress.cli.check import check
from nas_compress.cli.confirm import confirm
from nas_compress.cli.dashboard import dashboard
from nas_compress.cli.export import export
from nas_compress.cli.init import init
from nas_compress.cli.list_names import list_command
from nas_compress.cli.measure import agent, measure
from nas_compress.cli.run import run
from nas_compress.cli.show import plot, report, show, status
from nas_compress.cli.terminal import accept_any_text, print_line
from nas_compress.cli.verify import verify
from nas_compress.errors import NasCompressError, RequestError, describe, lacks_memory
from nas_compress.files import cache_folder


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="nas-compress")
def commands() -> None:
    """Search small, fast students of a trained network, each trained from scratch and measured on its file.

    STUDY: a study.toml, its folder, or a built-in name. RUN: a run folder, or the name of a study.

    Example: nas-compress run digits
    """


for command in (
    init,
    check,
    run,
    status,
    show,
    plot,
    report,
    dashboard,
    confirm,
    verify,
    export,
    measure,
    agent,
    list_command,
):
    commands.add_command(command)


def main() -> None:
    """Run the command line and exit with its code."""
    # Waiting threads that spin would take cores from other programs. torch reads this variable at import.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    signal.signal(signal.SIGTERM, _terminate)
    accept_any_text()
    sys.exit(_run())


def _run() -> int:
    try:
        commands.main(prog_name="nas-compress", standalone_mode=False)
        if sys.stdout is not None:  # closed by the shell
            sys.stdout.flush()
    except click.exceptions.Exit as leave:
        return leave.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return 2
    except click.ClickException as error:
        return _fail(_usage_line(error), 2)
    except RequestError as error:
        return _fail(str(error), 2)
    except NasCompressError as error:
        return _fail(str(error), 1)
    except (KeyboardInterrupt, click.Abort):
        return _fail("Stopped. Run the same command to continue.", 1)
    except BrokenPipeError:
        return _closed_pipe()
    except Exception as error:
        if lacks_memory(error):
            return _fail(f"Out of memory: {describe(error)}. Run the same command to continue.", 1)
        if isinstance(error, OSError):
            return _fail(_disk_line(error), 1)
        raise
    return 0


def _fail(line: str, code: int) -> int:
    print_line(f"nas-compress: {line}", err=True)
    return code


def _usage_line(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "nas-compress"
    return f"{' '.join(error.format_message().split())} (see {command} --help)"


def _closed_pipe() -> int:
    """Exit without a message if the reader of stdout has closed it, as in `nas-compress list losses | head -1`."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


def _disk_line(error: OSError) -> str:
    """Describe a failed read or write: what failed, where, and what to do."""
    if error.errno is None or isinstance(error, ConnectionError):
        return describe(error)
    place, why = _place(error), error.strerror or os.strerror(error.errno)
    why = why[:1].lower() + why[1:]
    if error.errno in _FULL:
        return f"Cannot write: {why}{place}. Free disk space and run the same command to continue."
    if error.errno == errno.EROFS:
        return f"Cannot write: {why}{place}. Make it writable or {_other_folder(error)}."
    if error.errno in (errno.EACCES, errno.EPERM):
        match _denied(error.filename):
            case "write":
                return f"Cannot write: {why}{place}. Make it writable or {_other_folder(error)}."
            case "read":
                return f"Cannot read: {why}{place}. Make it readable."
        return f"Cannot open: {why}{place}. Make its folder readable."
    if error.errno in _FAILING:
        return f"The disk failed: {why}{place}. Check it and run the same command to continue."
    return f"Cannot open: {why}{place}. Use another path."


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FAILING = (errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO)


def _place(error: OSError) -> str:
    names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    return f" ({', '.join(names)})" if names else ""


def _other_folder(error: OSError) -> str:
    """Name the way to another folder: the cache has a variable of its own."""
    name = error.filename
    in_cache = isinstance(name, str) and Path(name).absolute().is_relative_to(cache_folder().absolute())
    return "set NAS_COMPRESS_CACHE to another folder" if in_cache else "use another folder"


def _denied(name: object) -> str:
    """Return `read`, `write` or `open`, because an error of permission does not contain the refused action."""
    if not isinstance(name, str):
        return "open"
    if os.path.lexists(name):
        return "write" if os.access(name, os.R_OK) else "read"
    there = next((parent for parent in Path(name).absolute().parents if os.path.lexists(parent)), Path("/"))
    return "write" if os.access(there, os.X_OK) else "open"


def _terminate(number: int, frame: FrameType | None) -> None:
    """Handle SIGTERM like Ctrl-C: the current trial is released, and files stay complete."""
    raise KeyboardInterrupt
