"""The command line in forks of one prepared process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from fuzz_server import Ended, Request

import nas_compress

SERVER = Path(__file__).with_name("fuzz_server.py")


@dataclass(frozen=True, kw_only=True)
class Commands:
    """Runs `nas-compress ...` and waits for its end."""

    server: subprocess.Popen[str]

    def run(self, request: Request) -> Ended:
        assert self.server.stdin is not None
        print(json.dumps(asdict(request)), file=self.server.stdin, flush=True)
        return Ended(**self._line())

    def _line(self) -> dict[str, object]:
        assert self.server.stdout is not None
        line = self.server.stdout.readline()
        assert line, "the server of the commands died"
        return json.loads(line)


@contextmanager
def prepared_commands(scratch: Path, cache: Path, *, quick: bool) -> Iterator[Commands]:
    """Start the process.

    scratch: a folder for the outputs. cache: of teachers and latencies. quick: import only what quick commands need.
    """
    paths = [str(Path(nas_compress.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {
        "NAS_COMPRESS_CACHE": str(cache),
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "PYTHONDONTWRITEBYTECODE": "1",
        **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    }
    with subprocess.Popen(
        [sys.executable, str(SERVER), str(scratch), *(["quick"] if quick else [])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as server:
        commands = Commands(server=server)
        commands._line()
        yield commands
        assert server.stdin is not None
        server.stdin.close()
