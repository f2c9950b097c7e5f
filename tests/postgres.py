"""A PostgreSQL server of one test, on a free port of this machine, with its data in a folder of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from running import free_port


@dataclass(frozen=True, kw_only=True)
class Server:
    """The server's address without a password; `call` stops and starts it."""

    url: str
    call: Callable[..., None]

    def drop(self) -> None:
        """Cut all connections at once and admit no new one."""
        self.call("stop", "-m", "immediate")

    def back(self) -> None:
        """Admit connections again."""
        self.call("start")

    def connections(self) -> int:
        """The number of connections of other programs."""
        import psycopg

        with psycopg.connect(self.url) as connection:
            row = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = 'postgres' AND pid <> pg_backend_pid()"
            ).fetchone()
        assert row is not None
        return int(row[0])


@contextmanager
def postgres_server(password: str | None = None) -> Iterator[Server]:
    """Run a server with the user `tester`, who needs this password if there is one."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not found:
        pytest.skip("needs PostgreSQL's own programs")
    place, port = Path(tempfile.mkdtemp(prefix="nas_compress_postgres_")), free_port()
    root = os.geteuid() == 0  # as which the server refuses to run
    (place / "password").write_text(password or "none")
    if root:
        shutil.chown(place, "postgres")
        shutil.chown(place / "password", "postgres")
    become = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if root else []

    def call(program: str, *words: object) -> None:
        line = [*become, found[0] / program, "-D", place / "data", *words]
        subprocess.run([str(word) for word in line], check=True, cwd=place, stdout=subprocess.DEVNULL)

    method = "trust" if password is None else "scram-sha-256"
    call("initdb", "-U", "tester", "-A", method, "--pwfile", place / "password")
    options = f"-p {port} -k {place} -c listen_addresses=127.0.0.1 -c max_connections=100"

    def control(word: str, *words: object) -> None:
        call("pg_ctl", "-o", options, "-l", place / "log", "-w", *words, word)

    try:
        control("start")
        yield Server(url=f"postgresql://tester@127.0.0.1:{port}/postgres", call=control)
    finally:
        with suppress(subprocess.CalledProcessError):  # a test may have left it down
            control("stop", "-m", "immediate")
        shutil.rmtree(place)
