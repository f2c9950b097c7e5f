"""Controls of pruning: inherited weights, random importance, a uniform width of equal size."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from image_files import predict_logits
from nas_compress.errors import RequestError
from nas_compress.training.validate import evaluate
from nas_compress.trial.context import TrialContext
from nas_compress.trial.run import run_trial
from nas_compress.trial.shape import new_student, student_architecture
from nas_compress.trial.training import learning_rate
from nas_compress.trial.uniform_width_control import parameter_count, uniform_control
from nas_compress.values.candidate import Candidate
from nas_compress.values.outcome import Outcome

PRUNED = Candidate(family="resnet", depths=(1, 1, 1), pruning_ratio=0.4, pruning_criterion="l1")
INHERIT = replace(PRUNED, init="inherit", round_to=1)


@pytest.mark.parametrize(("criterion", "ratio"), [("l1", 0.3), ("taylor", 0.6)])
def test_a_uniform_width_meets_the_size_of_a_vote(ratio: float, criterion: str, context: TrialContext) -> None:
    voted = replace(PRUNED, pruning_ratio=ratio, pruning_criterion=criterion, round_to=1)
    control = uniform_control(voted, context, seed=0)
    assert control.pruning.ratio == 0 and control.control == "uniform width" and voted.control == ""
    shapes = [student_architecture(one, context, seed=0) for one in (voted, control)]
    counts = [parameter_count(shape, context.teacher) for shape in shapes]
    assert counts[1] == pytest.approx(counts[0], rel=0.03)
    assert [width.channels for width in shapes[0].widths] != [width.channels for width in shapes[1].widths]


def test_a_candidate_without_cuts_is_its_own_uniform_width(context: TrialContext) -> None:
    whole = Candidate(family="resnet", depths=(1, 1, 1), width_multiplier=0.5, round_to=1)
    assert uniform_control(whole, context, seed=0) is whole
    inherited = replace(INHERIT, pruning_ratio=0.0)
    assert uniform_control(inherited, context, seed=0).control == "uniform width", "it starts from the teacher"


def test_whole_inherited_weights_answer_like_the_teacher(context: TrialContext) -> None:
    whole = replace(INHERIT, pruning_ratio=0.0)
    architecture = student_architecture(whole, context, seed=0)
    samples = context.dataset.validation.inputs["input"][:8]
    student = new_student(whole, architecture, context.teacher, seed=0).eval()
    torch.testing.assert_close(student(samples), context.teacher.network(samples))
    fresh = new_student(replace(whole, init="scratch"), architecture, context.teacher, seed=0).eval()
    assert not torch.allclose(fresh(samples), context.teacher.network(samples), atol=0.1)


def test_inherited_weights_start_ahead_of_fresh_ones(context: TrialContext, tmp_path: Path) -> None:
    light = replace(INHERIT, pruning_ratio=0.05, pruning_criterion="bn_scale")
    slow = replace(
        context, training=context.training.model_copy(update={"inherit_learning_rate": 1e-9, "batch_size": 60})
    )
    outcome = run_trial(light, slow, seed=0, model=tmp_path / "model.onnx")
    assert outcome.state == "trained" and outcome.control == "inherited weights"
    validation = context.dataset.validation
    taught = evaluate(context.teacher.network, validation, context.dataset.task)["accuracy"]
    assert outcome.measured is not None and "accuracy" in outcome.measured.figures
    assert outcome.measured.figures["accuracy"] > 0.6 * taught > 0.4
    logits = torch.tensor(predict_logits(tmp_path / "model.onnx", validation.inputs["input"].numpy()))
    assert F.cross_entropy(logits, validation.targets["label"]) < 2.3
    assert json.loads(json.dumps(outcome.to_dict()))["control"] == "inherited weights"
    assert Outcome.from_dict(json.loads(json.dumps(outcome.to_dict()))) == outcome


def test_only_inherited_weights_have_a_learning_rate_of_their_own(context: TrialContext) -> None:
    own = context.training.model_copy(update={"inherit_learning_rate": 0.5})
    assert learning_rate(INHERIT, own) == 0.5
    assert learning_rate(PRUNED, own) == learning_rate(INHERIT, context.training) == context.training.learning_rate


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"family": "mobilenet"},
            "of the teacher's family and at most its depths, resnet (1, 1, 1), but got mobilenet",
        ),
        ({"depths": (1, 2, 1)}, "resnet (1, 1, 1), but got resnet (1, 2, 1)"),
        ({"width_multiplier": 2.0}, "init='inherit' needs at most the teacher's 16 channels in stem.conv, but got"),
    ],
)
def test_weights_that_cannot_be_inherited_are_refused(
    change: dict[str, object], message: str, context: TrialContext
) -> None:
    with pytest.raises(RequestError) as caught:
        student_architecture(replace(INHERIT, **change), context, seed=0)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_each_control_says_so() -> None:
    assert replace(PRUNED, pruning_criterion="random").control == "random vote"
    assert replace(PRUNED, pruning_criterion="uniform", init="inherit").control == "inherited weights, uniform width"
    with pytest.raises(RequestError, match="init must be a known name, but got 'inherits'; did you mean 'inherit'"):
        replace(PRUNED, init="inherits")
    with pytest.raises(RequestError, match="round_to >= 0 must hold, but got round_to=-1"):
        replace(PRUNED, round_to=-1)
