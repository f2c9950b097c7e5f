"""The command that writes the agent of a remote device."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from running import Command, own_cache  # noqa: F401


def test_it_writes_a_program_and_the_line_that_restricts_a_key_to_it(command: Command, tmp_path: Path) -> None:
    answer = command("agent", "--write", tmp_path / "agent.py")
    assert answer.code == 0 and 'restrict,command="python3 agent.py"' in answer.out.splitlines()
    assert command("agent", "--write", tmp_path / "agent.py").code == 0, "a newer one replaces it"
    alone = subprocess.run([sys.executable, "-I", tmp_path / "agent.py"], input=b"", capture_output=True)
    assert (alone.returncode, alone.stdout, alone.stderr) == (0, b"", b"")


def test_it_replaces_nothing_else(command: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("print()")
    answer = command("agent", "--write", tmp_path / "mine.py")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "--write must be a new file or an agent to replace" in answer.err
    assert (tmp_path / "mine.py").read_text() == "print()"
    assert command("agent").code == 2
