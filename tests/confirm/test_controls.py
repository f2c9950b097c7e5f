"""Each control differs from its member in one thing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from bert_folders import INNER, WIDTH
from inherited_contexts import ALL, bert_context
from nas_compress.config.schema import TrainingSection
from nas_compress.confirm.controls import CONTROLS
from nas_compress.errors import RequestError
from nas_compress.models.families import build_student
from nas_compress.models.macs import count_parameters
from nas_compress.trial.context import TrialContext
from nas_compress.trial.plan import candidate_rules
from nas_compress.trial.shape import student_architecture
from nas_compress.trial.validity import check_candidate
from nas_compress.values.candidate import Candidate, LossTerm, Quantization, Teaching, cross_entropy, distillation
from nas_compress.values.teaching import TEACHERS


@pytest.fixture
def member() -> Candidate:
    losses = distillation(hard_weight=0.3, soft_weight=0.7, temperature=4.0)
    return Candidate(
        family="resnet", depths=(1, 1, 1), width_multiplier=0.75, pruning_ratio=0.5, pruning_criterion="l1",
        weight_bits=8, losses=losses,
    )  # fmt: skip


def parameters(candidate: Candidate, context: TrialContext) -> int:
    architecture = student_architecture(candidate, context, seed=0)
    with torch.device("meta"):
        return count_parameters(build_student(architecture))


def test_without_teacher_only_the_losses_change(member: Candidate, context: TrialContext) -> None:
    made = CONTROLS["no_teacher"].make(member, context, 0)
    assert made.losses == cross_entropy()
    assert replace(made, losses=member.losses) == member


@pytest.mark.parametrize("teacher", [*TEACHERS, "distillation token"])
def test_without_teacher_nobody_else_teaches(teacher: str, member: Candidate, context: TrialContext) -> None:
    if teacher in TEACHERS:
        checkpoint = 0.5 if teacher == "fixed" else None
        agnostic = teacher == "task_agnostic"
        taught = replace(member, teaching=Teaching(teacher=teacher, checkpoint=checkpoint, annealing=not agnostic))
        if agnostic:
            taught = replace(taught, losses=(*cross_entropy(), LossTerm(name="sentence_embedding")))
        taught = replace(taught, quantization=Quantization(method="lsq"))
    else:
        taught = replace(member, family="vit", depths=(1,), distillation_token=True)
    check_candidate(taught)
    made = CONTROLS["no_teacher"].make(taught, context, 0)
    check_candidate(made)
    assert made.teaching == Teaching() and made.shape.settings == made.shape.settings.without_teacher()
    assert replace(made, losses=taught.losses, teaching=taught.teaching, shape=taught.shape) == taught
    assert replace(made.shape, settings=taught.shape.settings) == taught.shape


def test_a_uniform_width_is_unpruned_and_of_the_nearest_size(member: Candidate, context: TrialContext) -> None:
    made = CONTROLS["uniform_width"].make(member, context, 0)
    assert made.pruning.ratio == 0.0
    assert (made.losses, made.precision.weight_bits, made.shape.depths) == (
        member.losses,
        member.precision.weight_bits,
        member.shape.depths,
    )
    wanted, found = parameters(member, context), parameters(made, context)
    for other in (0.25, 0.5, 0.75, 1.0):
        assert abs(found - wanted) <= abs(parameters(replace(made, width_multiplier=other), context) - wanted)


def test_in_float32_the_shape_stays_and_rounding_and_zeros_go(member: Candidate, context: TrialContext) -> None:
    rounded = replace(
        member, weight_bits=2, activation_bits=8, zero_pattern="gradual", zero_fraction=0.5,
        quantization=Quantization(method="lsq"), teaching=Teaching(teacher="apprentice", scheme="fixed"),
    )  # fmt: skip
    made = CONTROLS["float32"].make(rounded, context, 0)
    check_candidate(made)
    shapes = [student_architecture(candidate, context, seed=0) for candidate in (rounded, made)]
    assert shapes[0] == shapes[1] and made.losses == member.losses
    assert (made.precision.weight_bits, made.precision.activation_bits, made.sparsity.pattern) == (32, 32, "none")
    floats = replace(member, weight_bits=32)
    assert CONTROLS["float32"].make(floats, context, 0) is floats, "its own control"


def test_to_inherit_only_the_start_changes_and_another_family_cannot(member: Candidate, context: TrialContext) -> None:
    assert context.teacher.family == "resnet"
    fitting = replace(member, width_multiplier=1.0)
    made = CONTROLS["inherit"].make(fitting, context, 0)
    assert made.pruning.init == "inherit"
    assert replace(made, init="scratch") == fitting
    with pytest.raises(RequestError, match="inherit"):
        CONTROLS["inherit"].make(replace(member, family="mobilenet"), context, 0)


@pytest.fixture(scope="module")
def of_bert(tmp_path_factory: pytest.TempPathFactory) -> TrialContext:
    context = bert_context(tmp_path_factory.mktemp("controls"))
    return replace(context, training=TrainingSection(epochs=3, batch_size=16))


GRADUAL = replace(
    ALL,
    pruning_ratio=0.5,
    pruning_criterion="l1",
    pruning_ranking="local",
    head_ratio=0.34,
    pruning_rounds=2,
    losses=(LossTerm(name="task_loss"), LossTerm(name="hidden_state")),
)
"""A student that is cut in steps. It leaves heads, perceptron and pooling open and so has its teacher's."""

AGNOSTIC = replace(
    ALL,
    depths=(2,),
    kept_blocks="alternate",
    losses=(LossTerm(name="task_loss"), LossTerm(name="sentence_embedding")),
    teaching=Teaching(teacher="task_agnostic"),
)


@pytest.mark.parametrize("member", [GRADUAL, AGNOSTIC], ids=["gradual", "task-agnostic"])
def test_students_that_inherit_have_every_control_with_their_own_settings(
    member: Candidate, of_bert: TrialContext
) -> None:
    settings = student_architecture(member, of_bert, seed=0).settings
    for name, control in CONTROLS.items():
        made = control.make(member, of_bert, 0)
        candidate_rules(of_bert, seed=0).require(made)
        assert student_architecture(made, of_bert, seed=0).settings == settings, name


def test_without_the_pretrained_encoder_a_student_has_fresh_weights(of_bert: TrialContext) -> None:
    made = CONTROLS["no_teacher"].make(AGNOSTIC, of_bert, 0)
    assert made.pruning.init == "scratch" and made.teaching == Teaching()
    assert student_architecture(made, of_bert, seed=0) == student_architecture(AGNOSTIC, of_bert, seed=0)
    assert CONTROLS["no_teacher"].make(GRADUAL, of_bert, 0).pruning.init == "inherit"


def test_to_inherit_open_settings_stay_those_of_the_member(of_bert: TrialContext) -> None:
    member = replace(ALL, init="scratch", heads=3, mlp_ratio=INNER / WIDTH)
    own = student_architecture(member, of_bert, seed=0)
    made = CONTROLS["inherit"].make(member, of_bert, 0)
    assert made.pruning.init == "inherit" and student_architecture(made, of_bert, seed=0) == own
    with pytest.raises(RequestError, match="must keep the widths of a member"):
        CONTROLS["inherit"].make(replace(ALL, init="scratch", heads=3), of_bert, 0)
