"""Commands in a new process, whose environment is set before Python starts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nas_compress
from running import shared_cache

COMMANDS = """
import sys
from nas_compress.cli import main as entry

commands = [line.split("\\x1f") for line in sys.argv[1:]]
for command in commands:
    sys.argv = ["nas-compress", *command]
    try:
        entry.main()
    except SystemExit as leave:
        print("code", leave.code, flush=True)
"""


@dataclass(frozen=True, kw_only=True)
class Printed:
    codes: list[int]
    out: str
    err: str


def run_commands(
    *commands: Sequence[object],
    cwd: Path,
    before: Path | None = None,
    then: str = "",
    without_rights: bool = False,
    **variables: str,
) -> Printed:
    """Run commands one after another in one new process; none may show a traceback.

    before: first folder on sys.path. then: code that the process runs at the end. without_rights: keep the permissions
    of files even if the tests run as root.
    """
    places = [str(place) for place in (before, Path(nas_compress.__file__).parents[1]) if place is not None]
    environment = os.environ | {"NAS_COMPRESS_CACHE": str(shared_cache()), "PYTHONPATH": os.pathsep.join(places)}
    drop = "-dac_override,-dac_read_search"
    prefix = ["setpriv", f"--bounding-set={drop}", f"--inh-caps={drop}"] if without_rights and not os.geteuid() else []
    lines = ["\x1f".join(map(str, command)) for command in commands]
    done = subprocess.run(
        [*prefix, sys.executable, "-c", COMMANDS + then, *lines],
        capture_output=True,
        cwd=cwd,
        env=environment | variables,
    )
    out, err = (content.decode("utf-8", "backslashreplace") for content in (done.stdout, done.stderr))
    assert "Traceback" not in err and done.returncode == 0, err
    codes = [int(line.split()[1]) for line in out.splitlines() if line.startswith("code ")]
    return Printed(codes=codes, out=out, err=err)
