from __future__ import annotations

import pytest

from running import Command, command_in
from running import own_cache as own_cache


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """`nas-compress ...` in this process."""
    return command_in(monkeypatch, capfd)
