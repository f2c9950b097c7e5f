"""Means, deviations and noise, by hand-worked numbers."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from nas_compress.confirm.statistics import alike, summarise
from nas_compress.runs.confirmation import Confirmation, Summary, read_confirmation, write_confirmation
from nas_compress.runs.folder import RunFolder
from nas_compress.values.candidate import Candidate
from nas_compress.values.outcome import Measured, Outcome


def outcome(accuracy: float | None) -> Outcome:
    candidate = Candidate(family="resnet", depths=(1,))
    if accuracy is None:
        return Outcome(candidate=candidate, seed=1, state="failed", reason="ExportError: no")
    measured = Measured(
        figures={"accuracy": accuracy, "latency_ms": 2.0, "size_bytes": 10, "parameters": 5, "macs": 1},
        latency_spread=0.0,
        latency_noisy=False,
    )
    return Outcome(candidate=candidate, seed=1, state="trained", measured=measured, epochs=4)


def row(trial: int, *test: float) -> Summary:
    return summarise(
        trial, "student", [outcome(0.5)] * len(test), test, metric="accuracy", searched=None, test_shipped=None
    )


def test_mean_and_sample_deviation_over_what_was_trained() -> None:
    made = summarise(
        3, "student", [outcome(0.90), outcome(None), outcome(0.94), outcome(0.92)], [0.8, 0.9, 0.7],
        metric="accuracy", searched=outcome(0.97).measured, test_shipped=0.85,
    )  # fmt: skip
    assert (made.seeds, made.failed, made.epochs) == (3, 1, 4)
    assert (made.validation_search, made.test_shipped) == (0.97, 0.85)
    assert made.validation_mean == pytest.approx(0.92)
    assert made.validation_std == pytest.approx(0.02)  # sqrt((0.0004 + 0.0004 + 0) / 2)
    assert (made.test_mean, made.test_std) == (pytest.approx(0.8), pytest.approx(0.1))
    assert made.figures == {"latency_ms": 2.0, "size_bytes": 10, "parameters": 5, "macs": 1}


def test_one_seed_has_no_deviation_and_none_has_no_mean() -> None:
    assert row(0, 0.9).test_std is None
    nothing = summarise(0, "student", [outcome(None)], [], metric="accuracy", searched=None, test_shipped=None)
    assert (nothing.validation_mean, nothing.test_mean, nothing.figures) == (None, None, {})


def test_members_are_alike_where_their_spreads_overlap() -> None:
    near, close, far = row(1, 0.90, 0.92, 0.94), row(2, 0.91, 0.93, 0.95), row(3, 0.60, 0.61, 0.62)
    assert alike([near, close, far, row(4, 0.9)]) == ((1, 2),)


def test_members_without_any_spread_are_alike_only_if_equal() -> None:
    assert alike([row(1, 0.9, 0.9), row(2, 0.9, 0.9), row(3, 0.8, 0.8)]) == ((1, 2),)


def test_a_summary_survives_its_flat_form_with_null_for_what_an_older_file_had_not_measured() -> None:
    made = row(1, 0.9, 0.92)
    flat = made.to_dict()
    assert flat["size_bytes"] == 10 and "figures" not in flat
    assert Summary.from_dict(flat) == made
    older = Summary.from_dict(flat | {"size_bytes": None})
    assert older.figures == {name: value for name, value in made.figures.items() if name != "size_bytes"}


@pytest.mark.parametrize("conditions", ["", "batch of 8, p95"])
def test_a_confirmation_names_the_conditions_of_its_latencies_unless_they_are_the_default(
    conditions: str, tmp_path: Path
) -> None:
    made = Confirmation(
        rows=(row(1, 0.9, 0.92),), alike=(), test_samples=9, teacher_validation=1, teacher_test=1, conditions=conditions
    )
    write_confirmation(RunFolder(root=tmp_path), made)
    assert read_confirmation(RunFolder(root=tmp_path)) == made
    first, teacher = csv.DictReader((tmp_path / "confirm.csv").read_text().splitlines())
    assert first.get("conditions", "") == conditions and not teacher.get("conditions")
    assert ("conditions" in (tmp_path / "confirm.json").read_text()) == bool(conditions)
