"""Candidates with fewer blocks or heads than the teacher: shape, weights and file."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nas_compress.errors import RequestError
from nas_compress.models.families import FAMILIES
from nas_compress.models.features import ObservableNetwork
from nas_compress.pruning.depth import Kept, without_blocks
from nas_compress.teacher.teacher import Teacher
from nas_compress.trial.context import TrialContext
from nas_compress.trial.run import run_trial
from nas_compress.trial.shape import new_student, student_architecture
from nas_compress.trial.uniform_width_control import uniform_control
from nas_compress.trial.validity import check_candidate
from nas_compress.values.architecture import Architecture
from nas_compress.values.candidate import Candidate

MakeNetwork = Callable[..., ObservableNetwork]
SHALLOW = Candidate(family="resnet", depths=(1, 1, 1), kept_blocks="last", init="inherit")
VIT = Candidate(family="vit", depths=(2,), kept_blocks="importance", init="inherit")
HEADS = replace(VIT, depths=(4,), kept_blocks="first", head_ratio=0.25)


@pytest.fixture(scope="module")
def deep(context: TrialContext, make_network: MakeNetwork) -> Teacher:
    """A resnet with few important channels in the second block of its first stage."""
    network = make_network("resnet", (3, 2, 1), shrink=2)
    network.raw_input = context.teacher.network.raw_input
    with torch.no_grad():
        network.stages[0][0].main[0].norm.weight[:12] *= 1e-3
    return replace(context.teacher, network=network, depths=(3, 2, 1))


def student_of(candidate: Candidate, context: TrialContext, teacher: Teacher) -> tuple[Architecture, torch.nn.Module]:
    architecture = student_architecture(candidate, replace(context, teacher=teacher), seed=0)
    return architecture, new_student(candidate, architecture, teacher, seed=0).eval()


def shorter(teacher: Teacher, kept: Kept) -> torch.nn.Module:
    """The teacher's network with only the kept blocks."""
    return without_blocks(teacher.network, FAMILIES[teacher.family], kept).eval()


def test_a_shallow_student_inherits_the_blocks_that_it_stands_for(
    deep: Teacher, context: TrialContext, vit_context: TrialContext
) -> None:
    samples = context.dataset.validation.inputs["input"][:16]
    _, student = student_of(SHALLOW, context, deep)
    torch.testing.assert_close(student(samples), shorter(deep, ((2,), (0,), (0,)))(samples))
    _, student = student_of(replace(SHALLOW, kept_blocks="first"), context, deep)
    torch.testing.assert_close(student(samples), shorter(deep, ((0,), (0,), (0,)))(samples))

    kept = vit_context.teacher.kept_blocks((2,), "importance")
    assert kept is not None and len(kept[0]) == 2
    _, student = student_of(VIT, context, vit_context.teacher)
    torch.testing.assert_close(student(samples), shorter(vit_context.teacher, kept)(samples))


def test_fresh_weights_get_the_widths_of_the_kept_blocks(deep: Teacher, context: TrialContext) -> None:
    voted = replace(SHALLOW, init="scratch", pruning_ratio=0.1, pruning_criterion="bn_scale", round_to=1)
    inner = "stages.0.0.main.0.conv"
    first, last = (
        student_of(replace(voted, kept_blocks=kept), context, deep)[0].channels(inner) for kept in ("first", "last")
    )
    assert first == 4 < last
    assert deep.kept_blocks((3, 2, 2), "last") is None


def test_whole_heads_go_and_the_rest_answers_alike(vit_context: TrialContext, context: TrialContext) -> None:
    samples = context.dataset.validation.inputs["input"][:16]
    teacher = replace(
        vit_context.teacher,
        network=shorter(vit_context.teacher, ((0, 1, 2, 3),)),
    )
    with torch.no_grad():  # four of sixteen heads that nobody reads: three of them in one layer
        for layer, head in ((0, 1), (2, 0), (2, 1), (2, 3)):
            teacher.network.layers[layer].attention.output.weight[:, 16 * head : 16 * (head + 1)] = 0
    architecture, student = student_of(HEADS, context, teacher)
    assert architecture.layer_heads == (3, 4, 1, 4)
    assert [layer.attention.heads for layer in student.layers] == [3, 4, 1, 4]
    torch.testing.assert_close(student(samples), teacher.network(samples), rtol=1e-4, atol=1e-4)
    assert Architecture.from_dict(json.loads(json.dumps(architecture.to_dict()))) == architecture
    limited, _ = student_of(replace(HEADS, min_heads=2), context, teacher)
    assert sum(limited.layer_heads) == 12 and min(limited.layer_heads) == 2

    fresh, student = student_of(replace(HEADS, init="scratch", width_multiplier=0.5), context, teacher)
    assert [width.channels for width in fresh.widths if "attention" in width.layer] == [24, 32, 8, 32]
    assert fresh.channels("embedding.conv") == 32 and fresh.channels("layers.0.mlp.inner") == 64
    assert replace(HEADS, init="scratch").control == ""
    control = uniform_control(replace(HEADS, init="scratch", round_to=1), replace(context, teacher=teacher), seed=0)
    assert control.pruning.head_ratio == 0 and control.control == "uniform width"


@pytest.mark.parametrize("bits", [(32, 32), (8, 8)], ids=str)
def test_fewer_layers_and_heads_train_and_ship(
    bits: tuple[int, int], vit_context: TrialContext, tmp_path: Path
) -> None:
    candidate = replace(
        VIT, init="scratch", head_ratio=0.5, pruning_ratio=0.3, pruning_criterion="taylor", width_multiplier=0.5,
        weight_bits=bits[0], activation_bits=bits[1],
    )  # fmt: skip
    outcome = run_trial(candidate, vit_context, seed=0, model=tmp_path / "model.onnx")
    assert outcome.state == "trained", outcome.reason
    assert outcome.architecture is not None and sum(outcome.architecture.layer_heads) == 4
    assert outcome.measured is not None and (outcome.measured.agreement or 0) >= 0.9


def test_layers_that_share_attention_have_one_number_of_heads(vit_context: TrialContext) -> None:
    shared = replace(HEADS, init="scratch", depths=(2,), sharing="attention", head_ratio=0.5)
    shape = student_architecture(shared, vit_context, seed=0)
    assert len(shape.layer_heads) == 1
    network = new_student(shared, shape, vit_context.teacher, seed=0)
    assert [layer.attention.heads for layer in network.layers] == [*shape.layer_heads] * 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depths": (4, 1, 1)}, "family and at most its depths, resnet (3, 2, 1), but got resnet (4, 1, 1)"),
        ({"family": "mobilenet"}, "kept_blocks='last' needs a student of the teacher's family, resnet, but got mobile"),
        (
            {"head_ratio": 0.5},
            "needs a family with attention (vit, encoder), but got head_ratio=0.5 for family 'resnet'",
        ),
        ({"kept_blocks": "best"}, "kept_blocks must be a known name, but got 'best'"),
        (
            {"family": "vit", "depths": (2,), "init": "scratch", "kept_blocks": "first", "head_ratio": 0.5},
            "head_ratio needs a teacher with attention heads, but the teacher has none",
        ),
        (
            {"family": "pruned", "depths": (), "init": "scratch", "kept_blocks": "first", "head_ratio": 0.5},
            "head_ratio needs a teacher with attention heads, but the teacher has none",
        ),
    ],
)
def test_what_the_teacher_has_not_is_refused(
    change: dict[str, object], message: str, deep: Teacher, context: TrialContext
) -> None:
    with pytest.raises(RequestError) as caught:
        candidate = replace(SHALLOW, **change)  # type: ignore[arg-type]
        check_candidate(candidate)
        student_architecture(candidate, replace(context, teacher=deep), seed=0)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_inherited_heads_are_the_teachers(vit_context: TrialContext) -> None:
    with pytest.raises(RequestError, match="needs the teacher's 4 heads in attention, but got heads=2"):
        student_architecture(replace(HEADS, heads=2), vit_context, seed=0)
    with pytest.raises(RequestError, match="cannot get narrower, but got 32; head_ratio removes whole heads"):
        student_architecture(replace(HEADS, width_multiplier=0.5), vit_context, seed=0)
    for change in ({"head_ratio": 1.0}, {"head_ratio": -0.1}, {"min_heads": 0}):
        with pytest.raises(RequestError, match="must"):
            replace(HEADS, **change)  # type: ignore[arg-type]
