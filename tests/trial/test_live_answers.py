"""A teacher whose answers would take too much memory answers each batch, with the same loss."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nas_compress.callbacks import no_notice
from nas_compress.data.augment.choose import Drawing, drawn
from nas_compress.losses.training_loss import TrainingLoss
from nas_compress.models.families import build_student
from nas_compress.teacher.logits_cache import answers_bytes
from nas_compress.training.live_answers import LiveAnswers
from nas_compress.training.objective import LossObjective
from nas_compress.trial.context import TrialContext
from nas_compress.trial.run import run_trial
from nas_compress.trial.shape import student_architecture
from nas_compress.trial.train_student import find_supervision
from nas_compress.values.candidate import Candidate, Teaching, distillation

KD = distillation(hard_weight=0.5, soft_weight=0.5, temperature=2.0)
BASE = Candidate(family="resnet", depths=(1, 1, 1), width_multiplier=0.5, losses=KD)


@pytest.fixture
def mixing(context: TrialContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrialContext:
    """The context with mixed samples in two views, and a cache of its own."""
    monkeypatch.setenv("NAS_COMPRESS_CACHE", str(tmp_path / "cache"))
    data = context.dataset
    augmentation = drawn(data.augmentation, Drawing(mixup=0.5, views=2), task=data.task, seed=0)
    data = replace(data, augmentation=augmentation)
    teacher = replace(context.teacher, dataset=data, folder=tmp_path, notice=no_notice)
    return replace(context, dataset=data, teacher=teacher)


def terms(context: TrialContext, candidate: Candidate = BASE) -> list[float]:
    """The terms of one batch of mixed samples in the second view."""
    torch.manual_seed(0)
    student = build_student(student_architecture(candidate, context, seed=0)).eval()
    supervision = find_supervision(candidate, context)
    objective = LossObjective(TrainingLoss(context.dataset.task, candidate.losses), answers=supervision.answers)
    samples, index = context.teacher.train_samples, torch.tensor([5, 1, 20])
    views = context.dataset.augmentation.over(samples.inputs)
    batch, targets = views.batch(index, 1), views.targets(samples.targets, index, 1)
    with torch.no_grad():
        found = objective(student, batch, targets, view=1, index=index, progress=0.0)
    return [float(value) for value in found.values()]


def live(context: TrialContext, monkeypatch: pytest.MonkeyPatch) -> tuple[TrialContext, list[str]]:
    notices: list[str] = []
    monkeypatch.setattr("nas_compress.teacher.logits_cache.MOST_BYTES", 1000)
    return replace(context, teacher=replace(context.teacher, notice=notices.append)), notices


def test_stored_and_live_answers_to_mixed_samples_give_the_same_loss(
    mixing: TrialContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = terms(mixing)
    samples, classes = len(mixing.dataset.train), mixing.dataset.task.classes
    assert answers_bytes(mixing.dataset.train, mixing.dataset.augmentation, mixing.dataset.task) == (
        2 * samples * (classes or 0) * 2
    )
    changed, notices = live(mixing, monkeypatch)
    assert terms(changed) == pytest.approx(stored, rel=2e-3)
    (line,) = notices
    assert line.startswith(f"The teacher's answers to 2 views of {samples} samples would take ") and "\n" not in line
    assert line.endswith("the teacher runs for each batch, and trials take longer. Fewer data.views avoid that.")


@pytest.mark.slow
@pytest.mark.parametrize("average", ["probability", "logits"])
def test_live_ensembles_answer_like_stored_ones(
    average: str, mixing: TrialContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidate = replace(BASE, teaching=Teaching(teacher="ensemble", members=2, average=average))
    stored = terms(mixing, candidate)
    changed, _ = live(mixing, monkeypatch)
    answers = find_supervision(candidate, changed).answers
    assert isinstance(answers, LiveAnswers)
    assert terms(changed, candidate) == pytest.approx(stored, rel=2e-3)


def test_a_born_again_trial_runs_with_live_answers(
    mixing: TrialContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed, _ = live(mixing, monkeypatch)
    training = changed.training.model_copy(update={"epochs": 1})
    candidate = replace(BASE, teaching=Teaching(teacher="born_again", generations=2))
    outcome = run_trial(candidate, replace(changed, training=training), seed=0, model=tmp_path / "m.onnx")
    assert outcome.state == "trained", outcome.reason
    assert not list(tmp_path.rglob("logits.safetensors"))
