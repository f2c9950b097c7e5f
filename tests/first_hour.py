"""Fixtures of walks from `init` to an exported file, for import by test files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from running import Command, command_in, quick_and_apart


@pytest.fixture(autouse=True)
def here(tmp_path: Path) -> Iterator[Path]:
    """Work in an empty folder, with few draws of the space."""
    with quick_and_apart() as patch:
        patch.chdir(tmp_path)
        patch.setattr("nas_compress.search.preflight.feasibility.DRAWS", 4)
        yield tmp_path


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Run a command of the tool in this process."""
    return command_in(monkeypatch, capfd)
