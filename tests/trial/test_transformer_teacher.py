"""A transformer as the teacher of its own and of another family, by logits, features and relations."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nas_compress.config.teacher_section import TeacherSection
from nas_compress.data.dataset import Dataset
from nas_compress.losses.training_loss import TrainingLoss
from nas_compress.models.families import build_student
from nas_compress.models.features import ObservableNetwork
from nas_compress.models.macs import count_macs
from nas_compress.teacher.derived import assistant_architecture
from nas_compress.teacher.teacher import Teacher
from nas_compress.trial.context import TrialContext
from nas_compress.trial.run import run_trial
from nas_compress.trial.shape import student_architecture
from nas_compress.values.candidate import Candidate, LossTerm, cross_entropy
from teachers import small_teacher_in

ANSWERS = LossTerm(name="kd", settings={"temperature": 2.0})


@pytest.fixture(scope="module")
def transformer(few_digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    section = TeacherSection(
        family="vit", widths=(24,), depths=(3,), heads=3, mlp_ratio=3.0, pooling="class_token", epochs=2
    )
    return small_teacher_in(tmp_path_factory.mktemp("transformer"), section, few_digits)


@pytest.fixture(scope="module")
def taught(context: TrialContext, transformer: Teacher) -> TrialContext:
    macs = count_macs(transformer.network, context.dataset.train.first(1).inputs)
    return replace(context, teacher=transformer, teacher_macs=macs)


@pytest.mark.parametrize(
    ("family", "terms"),
    [
        ("resnet", ("rkd_distance", "rkd_angle", "similarity_preserving")),
        ("vit", ("hidden_state", "embedding", "minilm_relations")),
    ],
)
def test_it_teaches_either_family(family: str, terms: tuple[str, ...], taught: TrialContext, tmp_path: Path) -> None:
    candidate = Candidate(
        family=family,
        depths=(1, 1, 1) if family == "resnet" else (2,),
        width_multiplier=1.0 if family == "vit" else 0.5,
        pruning_ratio=0.25,
        pruning_criterion="l1",
        weight_bits=8,
        activation_bits=8,
        losses=(*cross_entropy(), ANSWERS, *(LossTerm(name=name, weight=0.1) for name in terms)),
        distillation_token=family == "vit",
    )
    outcome = run_trial(candidate, taught, seed=0, model=tmp_path / "m.onnx")
    assert outcome.state == "trained", outcome.reason
    assert set(outcome.losses) == {"cross_entropy", "kd", *terms} and min(outcome.losses.values()) > 0


def test_labels_teach_the_first_classifier_and_answers_the_second(context: TrialContext) -> None:
    candidate = Candidate(family="vit", depths=(1,), losses=(*cross_entropy(), ANSWERS), distillation_token=True)
    student = build_student(student_architecture(candidate, context, seed=0))
    few = context.dataset.train.first(8)
    terms = TrainingLoss(context.dataset.task, candidate.losses)(
        student.observe(few.inputs["input"]), few.targets, answers=context.teacher.network(few.inputs["input"]).detach()
    )
    heads = (student.get_parameter("head.linear.weight"), student.get_parameter("distillation_head.linear.weight"))
    for name, reached in (("cross_entropy", [True, False]), ("kd", [False, True])):
        grads = torch.autograd.grad(terms[name], heads, retain_graph=True, allow_unused=True)
        assert [grad is not None and bool(grad.any()) for grad in grads] == reached, name


def test_an_assistant_has_whole_heads(transformer: Teacher) -> None:
    for size in (0.3, 0.5, 0.9):
        shape = assistant_architecture(transformer, size)
        assert shape.depths == (3,) and shape.settings.heads == 3 and shape.settings.pooling == "class_token"
        assert all(shape.channels(f"layers.{layer}.attention.query") % 24 == 0 for layer in range(3))
        assert shape.channels("layers.0.mlp.inner") == round(72 * size / 8) * 8  # three times the stream, scaled


def test_it_is_kept_and_answers_alike(transformer: Teacher, few_digits: Dataset) -> None:
    network = transformer.network
    assert isinstance(network, ObservableNetwork)
    samples = few_digits.train.inputs["input"][:8]
    kept, fresh = transformer.answers[0, :8].float(), network(samples).detach()
    torch.testing.assert_close(fresh - fresh.amax(dim=1, keepdim=True), kept, atol=1e-2, rtol=1e-2)
