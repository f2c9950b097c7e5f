"""A size budget ends a trial before training only if no weights can meet it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nas_compress.measurement.pipeline import Stopwatch
from nas_compress.trial.context import TrialContext
from nas_compress.trial.plan import candidate_rules, plan_trial
from nas_compress.trial.run import run_trial
from nas_compress.trial.untrained_cost import SPARSE_PART
from nas_compress.values.candidate import Candidate
from nas_compress.values.metrics.table import Budget

ZEROS = Candidate(
    family="resnet", depths=(1, 1, 1), width_multiplier=0.5, weight_bits=4, zero_pattern="one_shot", zero_fraction=0.8
)


def test_a_size_budget_is_judged_by_what_is_sure(context: TrialContext, tmp_path: Path) -> None:
    checked = candidate_rules(context, seed=0).require(ZEROS)
    plan, _ = plan_trial(checked, context, seed=0, folder=tmp_path, name="model.onnx", watch=Stopwatch())
    for part, state in ((0.99, "trained"), (0.99 * SPARSE_PART, "over_budget")):
        limit = Budget(name="size_bytes", limit=part * plan.cost.figures["size_bytes"])
        outcome = run_trial(ZEROS, replace(context, budgets=(limit,)), seed=0, model=tmp_path / "model.onnx")
        assert outcome.state == state, outcome.reason
