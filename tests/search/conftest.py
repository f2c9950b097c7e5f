from __future__ import annotations

import pytest

from running import own_cache as own_cache
from running import sketch_pictures


@pytest.fixture(autouse=True)
def sketched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs whose pictures are not drawn."""
    sketch_pictures(monkeypatch)


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials without their training, whose file and figures stay real, and without long surveys: for many trials."""
    monkeypatch.setattr("nas_compress.trial.training.train", lambda student, *rest, **named: student.eval() and {})
    monkeypatch.setattr("nas_compress.search.samplers.ehvi_sampler.SURVEY", 4)
    monkeypatch.setattr("nas_compress.search.samplers.ehvi_sampler.LOOKS", 2)
