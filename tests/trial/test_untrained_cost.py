"""A budget ends a trial before training only if no weights can meet it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nas_compress.config.schema import DataSection, StudySpec
from nas_compress.measurement.pipeline import Stopwatch
from nas_compress.search.samplers.cost_lookup import CostLookup
from nas_compress.trial.context import TrialContext
from nas_compress.trial.cost_bounds import SPARSE_PART, least_cost
from nas_compress.trial.plan import candidate_rules, plan_trial
from nas_compress.trial.run import run_trial
from nas_compress.values.candidate import Candidate, Exits
from nas_compress.values.exits.figures import ExitFigures
from nas_compress.values.metrics.named_device_rows import device_rows
from nas_compress.values.metrics.table import Budget, declare_metrics
from nas_compress.values.outcome import Measured

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


def test_assumed_rates_of_exits_break_no_budget_on_a_named_device() -> None:
    declare_metrics(device_rows(["pi"]))
    cost = Measured(
        figures={"size_bytes": 100.0, "latency_ms": 2.0, "latency_ms@pi": 20.0, "macs": 200.0},
        latency_spread=0.0,
        latency_noisy=False,
        exits=ExitFigures(latency_ms=(1.0, 3.0), macs=(100, 300), rates=(0.5, 0.5)),
    )
    limits = [Budget(name=name, limit=limit) for name, limit in (("latency_ms", 1.5), ("latency_ms@pi", 15.0))]
    assert least_cost(cost, "model.onnx", zero_pattern="none").broken_budgets(limits) == ""
    whole = replace(cost, exits=None)
    assert "latency_ms@pi" in least_cost(whole, "model.onnx", zero_pattern="none").broken_budgets(limits)


def test_a_look_up_judges_no_percentile_by_assumed_rates(context: TrialContext) -> None:
    spec = StudySpec(name="exits", space="cnn", data=DataSection(name="digits"))
    limited = replace(context, budgets=(Budget(name="latency_p95_ms", limit=1e-6), Budget(name="size_bytes", limit=1)))
    find = CostLookup(spec=spec, context=limited, rules=candidate_rules(limited, seed=0))
    candidate = Candidate(family="resnet", depths=(1, 1, 1), width_multiplier=0.5, exits=Exits(after=("stage0",)))
    known = find(candidate)
    assert known is not None and [key.partition(" ")[0] for key in known.constraints] == ["size_bytes"]
