from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from running import quick_and_apart


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path) -> Iterator[None]:
    with quick_and_apart() as patch:
        patch.chdir(tmp_path)
        yield


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials without their training, whose file and figures stay real, and runs without pictures: for many trials."""
    monkeypatch.setattr("nas_compress.trial.fit.train", lambda student, *rest, **named: student.eval() and {})
    monkeypatch.setattr("nas_compress.runs.results.plot_front", lambda *rest, **named: None)
    monkeypatch.setattr("nas_compress.runs.results.plot_hypervolume", lambda *rest, **named: None)
