from __future__ import annotations

from pathlib import Path

import pytest

from nas_compress.study.run import run_study
from running import Command, command_in, write_study


@pytest.fixture(scope="session")
def command_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Teachers and latencies are kept for all tests of one session."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_cache(command_cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NAS_COMPRESS_CACHE", str(command_cache))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """`nas-compress ...` in this process."""
    return command_in(monkeypatch, capfd)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, command_cache: Path) -> Path:
    """A folder with `study/` and its `run/` of five trials, one of them over budget; only to be read."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NAS_COMPRESS_CACHE", str(command_cache))
        study = write_study(folder / "study", extra="[budgets.size_bytes]\nat_most = 60000\n")
        run_study(study, out=folder / "run", trials=5)
    return folder
