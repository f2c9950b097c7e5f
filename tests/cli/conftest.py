from __future__ import annotations

from pathlib import Path

import pytest

from nas_compress.study.run import run_study
from running import Command, command_in, quick_and_apart, write_study
from running import own_cache as own_cache


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """`nas-compress ...` in this process."""
    return command_in(monkeypatch, capfd)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `study/` and its `run/` of five trials, some of them over budget; only to be read."""
    folder = tmp_path_factory.mktemp("finished")
    with quick_and_apart():
        study = write_study(folder / "study", extra="[budgets.size_bytes]\nat_most = 60000\n")
        run_study(study, out=folder / "run", trials=5)
    return folder
