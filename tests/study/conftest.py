from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Teachers and latencies are kept for all tests of one session."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_cache(shared_cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NAS_COMPRESS_CACHE", str(shared_cache))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials without their training, whose file and figures stay real, and runs without pictures: for many trials."""
    monkeypatch.setattr("nas_compress.trial.run.train", lambda student, *rest, **named: student.eval() and {})
    monkeypatch.setattr("nas_compress.runs.results.plot_front", lambda *rest, **named: None)
    monkeypatch.setattr("nas_compress.runs.results.plot_hypervolume", lambda *rest, **named: None)
