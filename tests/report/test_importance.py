"""The shares of searched parameters."""

from __future__ import annotations

import numpy as np
import pytest

from nas_compress.report.importance import FEWEST_TRIALS, conditional_parameters, parameter_importances
from nas_compress.runs.records import Record
from nas_compress.values.candidate import Candidate
from nas_compress.values.metrics.table import Objective
from nas_compress.values.outcome import Measured, Outcome

OBJECTIVES = (Objective(name="accuracy"), Objective(name="size_bytes"))


def record(trial: int, accuracy: float, size_bytes: int, **params: object) -> Record:
    measured = Measured(
        figures={"accuracy": accuracy, "latency_ms": 1.0, "size_bytes": size_bytes, "parameters": 1, "macs": 1},
        latency_spread=0.0,
        latency_noisy=False,
    )
    outcome = Outcome(candidate=Candidate(family="resnet", depths=(1,)), seed=0, state="trained", measured=measured)
    return Record(trial=trial, params=params, outcome=outcome, finished_s=0.0, model="")


@pytest.fixture
def records() -> list[Record]:
    """Width alone decides the size; teaching, a category, alone decides the accuracy; both a little noisy."""
    generator = np.random.default_rng(0)
    made = []
    for trial in range(200):
        width, teaching = int(generator.integers(1, 9)), str(generator.choice(["kd", "plain", "soft"]))
        accuracy = {"kd": 0.5, "plain": 0.6, "soft": 0.9}[teaching] + 0.01 * float(generator.random())
        size_bytes = 1000 * width + int(generator.integers(100))
        odd = bool(generator.integers(2))
        made.append(record(trial, accuracy, size_bytes, width=width, teaching=teaching, odd=odd))
    return made


def test_each_objective_is_decided_by_its_own_parameter(records: list[Record]) -> None:
    shares = parameter_importances(records, OBJECTIVES)
    assert max(shares["accuracy"], key=shares["accuracy"].__getitem__) == "teaching"
    assert max(shares["size_bytes"], key=shares["size_bytes"].__getitem__) == "width"
    assert all(sum(found.values()) == pytest.approx(1) for found in shares.values())
    assert all(found["odd"] < 0.2 for found in shares.values())


def test_a_parameter_that_only_some_trials_have_gets_no_share(records: list[Record]) -> None:
    some = [*records, record(99, 0.5, 1000, width=1, teaching="kd", odd=True, temperature=4.0)]
    assert conditional_parameters(some) == ["temperature"]
    assert parameter_importances(some, OBJECTIVES)["accuracy"].keys() == {"width", "teaching", "odd"}


def test_few_or_equal_trials_give_no_shares(records: list[Record]) -> None:
    assert parameter_importances([], OBJECTIVES) == {}
    assert parameter_importances(records[: FEWEST_TRIALS - 1], OBJECTIVES) == {}
    same = [record(n, 0.5, 1000 + n, width=1) for n in range(20)]
    assert parameter_importances(same, OBJECTIVES) == {}
    level = [record(n, 0.5, 1000 + n, width=n) for n in range(20)]
    assert parameter_importances(level, OBJECTIVES).keys() == {"size_bytes"}
