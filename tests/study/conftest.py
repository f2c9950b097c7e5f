from __future__ import annotations

import pytest

from running import own_cache as own_cache


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials without their training, whose file and figures stay real, without pictures and long surveys: for many."""
    monkeypatch.setattr("nas_compress.trial.fit.train", lambda student, *rest, **named: student.eval() and {})
    monkeypatch.setattr("nas_compress.runs.results.plot_front", lambda *rest, **named: None)
    monkeypatch.setattr("nas_compress.runs.results.plot_hypervolume", lambda *rest, **named: None)
    monkeypatch.setattr("nas_compress.study.ehvi.SURVEY", 4)
