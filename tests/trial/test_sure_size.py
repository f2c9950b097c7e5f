"""Candidates whose bytes depend on their weights end before training only where these cannot help."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nas_compress.candidate import Candidate
from nas_compress.deployment import Stopwatch
from nas_compress.objective import Budget
from nas_compress.trial.bench import Bench
from nas_compress.trial.run import run_trial
from nas_compress.trial.sure_size import SPARSE_PART
from nas_compress.trial.untrained import make_untrained

ZEROS = Candidate(
    family="resnet", depths=(1, 1, 1), width_multiplier=0.5, weight_bits=4, zero_pattern="one_shot", zero_fraction=0.8
)
DENSE = replace(ZEROS, zero_pattern="none", zero_fraction=0.0)


@pytest.mark.parametrize(
    ("candidate", "part", "state"),
    [(ZEROS, 0.99, "trained"), (ZEROS, 0.99 * SPARSE_PART, "over_budget"), (DENSE, 0.99, "over_budget")],
    ids=["may get smaller", "too large by far", "cannot get smaller"],
)
def test_a_size_budget_is_judged_by_what_is_sure(
    candidate: Candidate, part: float, state: str, bench: Bench, tmp_path: Path
) -> None:
    made = make_untrained(candidate, bench, seed=0, folder=tmp_path, name="model.onnx", watch=Stopwatch())
    limit = Budget(name="size_bytes", limit=part * made.form.cost.size_bytes)
    outcome = run_trial(candidate, replace(bench, budgets=(limit,)), seed=0, model=tmp_path / "model.onnx")
    assert outcome.state == state, outcome.reason
