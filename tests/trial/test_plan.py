"""The plan of a trial holds what is settled before training."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest
import torch

from nas_compress.measurement.pipeline import Stopwatch
from nas_compress.models.macs import count_macs
from nas_compress.trial.context import TrialContext
from nas_compress.trial.plan import TrialPlan, candidate_rules, plan_trial
from nas_compress.trial.run import run_trial
from nas_compress.values.candidate import Candidate

SMALL = Candidate(family="resnet", depths=(1, 1, 1), width_multiplier=0.25, weight_bits=4)


def plan_of(candidate: Candidate, context: TrialContext, folder: Path) -> tuple[TrialPlan, torch.nn.Module]:
    checked = candidate_rules(context, seed=3).require(candidate)
    return plan_trial(checked, context, seed=3, name="model.onnx", folder=folder, watch=Stopwatch())


def test_a_plan_describes_the_untrained_student(context: TrialContext, tmp_path: Path) -> None:
    plan, student = plan_of(SMALL, context, tmp_path)
    assert (plan.candidate, plan.seed, plan.integer_latency_ms) == (SMALL, 3, None)
    assert all(student.get_submodule(layer).weight.ndim >= 2 for layer in plan.layer_bits)
    assert set(plan.layer_bits.values()) == {4, 8}, "the ends have 8 bits"
    assert plan.cost.figures["macs"] == count_macs(student, context.dataset.train.first(1).inputs)
    assert "accuracy" not in plan.cost.figures
    assert [path.name for path in tmp_path.iterdir()] == ["32-model.onnx"]
    with pytest.raises(FrozenInstanceError):
        plan.epochs = 0  # type: ignore[misc]


def test_the_same_seed_gives_the_same_student(context: TrialContext, tmp_path: Path) -> None:
    (first, student), (second, again) = (plan_of(SMALL, context, tmp_path) for _ in range(2))
    assert (first.architecture, first.layer_bits, first.epochs) == (
        second.architecture,
        second.layer_bits,
        second.epochs,
    )
    weights = again.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in student.state_dict().items())


def test_a_trial_trains_the_planned_epochs(context: TrialContext, tmp_path: Path) -> None:
    spends = context.training.model_copy(update={"budget": "scratch_b", "cap": 3.0, "batch_size": 100})
    context = replace(context, training=spends, teacher_macs=100 * context.teacher_macs)
    plan, _ = plan_of(SMALL, context, tmp_path)
    outcome = run_trial(SMALL, context, seed=3, model=tmp_path / "model.onnx")
    assert outcome.epochs == plan.epochs == 3 * context.training.epochs
    assert outcome.architecture == plan.architecture
