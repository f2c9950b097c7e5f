"""Trials with few labels: who learns from which samples, and answers out of fold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nas_compress.config.teacher_section import TeacherSection
from nas_compress.confirm.controls import CONTROLS
from nas_compress.data.dataset import Dataset
from nas_compress.data.load_dataset import load_dataset
from nas_compress.errors import RequestError
from nas_compress.teacher.derived import divided_into_folds, out_of_fold
from nas_compress.teacher.logits_cache import compute_answers
from nas_compress.trial.context import TrialContext
from nas_compress.trial.plan import candidate_rules
from nas_compress.trial.run import run_trial
from nas_compress.values.candidate import Candidate, Exits, LossTerm, Teaching, cross_entropy, distillation
from teachers import small_teacher_in

KD = distillation(hard_weight=0.3, soft_weight=0.7, temperature=2.0)
BASE = Candidate(family="resnet", depths=(1, 1, 1), width_multiplier=0.5, losses=KD)


@pytest.fixture(scope="module")
def scarce_digits() -> Dataset:
    return load_dataset(name="digits", shift=1, train_samples=200, labels=40)


@pytest.fixture(scope="module")
def scarce(context: TrialContext, scarce_digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> TrialContext:
    section = TeacherSection(widths=(8, 16, 16), epochs=4, learning_rate=1e-2)
    teacher = small_teacher_in(tmp_path_factory.mktemp("scarce"), section, scarce_digits)
    return replace(context, dataset=scarce_digits, teacher=teacher)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_COMPRESS_CACHE", str(tmp_path_factory.getbasetemp() / "scarce-labels"))


def test_the_teacher_learns_from_labels_and_answers_all_samples(scarce: TrialContext) -> None:
    assert len(scarce.teacher.labelled_samples) == 40
    assert scarce.teacher.answers.shape[1] == 200


@pytest.mark.parametrize("losses", [KD, cross_entropy(), (LossTerm(name="task_loss"),)], ids=["kd", "labels", "task"])
def test_a_student_is_trained_with_and_without_the_teacher(
    losses: tuple[LossTerm, ...], scarce: TrialContext, tmp_path: Path
) -> None:
    outcome = run_trial(replace(BASE, losses=losses), scarce, seed=0, model=tmp_path / "model.onnx")
    assert outcome.state == "trained", outcome.reason
    assert all(value > 0 for value in outcome.losses.values())


def test_exits_are_fitted_to_labelled_samples(scarce: TrialContext, tmp_path: Path) -> None:
    joint = Exits(after=("stage0",), training="joint", confidence="hinge", accuracy_loss=0.02)
    outcome = run_trial(replace(BASE, exits=joint), scarce, seed=0, model=tmp_path / "model.onnx")
    assert outcome.state == "trained", outcome.reason
    assert outcome.losses["exit0"] > 0


def test_without_a_teacher_an_epoch_draws_labelled_samples_only(scarce: TrialContext, context: TrialContext) -> None:
    draws = scarce.draws(cross_entropy())
    assert draws is not None and torch.equal(draws > 0, scarce.dataset.train.targets["label"] >= 0)
    assert scarce.draws(KD) is None and context.draws(cross_entropy()) is None


def test_folds_divide_the_labelled_samples_of_each_class(scarce: TrialContext) -> None:
    targets = scarce.dataset.train.targets
    folds = divided_into_folds(scarce.dataset.task, targets, 4, seed=0)
    together = torch.cat(folds).sort().values
    assert torch.equal(together, (targets["label"] >= 0).nonzero()[:, 0])
    assert [len(fold) for fold in folds] == [10, 10, 10, 10]
    assert all(len(set(targets["label"][fold].tolist())) >= 8 for fold in folds)


def test_a_sample_is_answered_by_a_network_that_did_not_learn_it(scarce: TrialContext) -> None:
    teacher = scarce.teacher
    answers = out_of_fold(teacher, 2)
    known = scarce.dataset.train.targets["label"] >= 0
    assert torch.equal(answers[:, ~known], teacher.answers[:, ~known])
    assert not torch.equal(answers[:, known], teacher.answers[:, known])
    assert out_of_fold(teacher, 2) is answers
    folds = divided_into_folds(scarce.dataset.task, scarce.dataset.train.targets, 2, seed=teacher.section.seed)
    for fold, made in zip(folds, teacher.derived.values(), strict=True):
        own = compute_answers(made.network, teacher.train_samples, scarce.dataset.augmentation, scarce.dataset.task)
        assert torch.equal(answers[:, fold], own.relative[:, fold])


def test_answers_out_of_fold_are_a_way_of_teaching(scarce: TrialContext, tmp_path: Path) -> None:
    candidate = replace(BASE, teaching=Teaching(teacher="out_of_fold", folds=2))
    outcome = run_trial(candidate, scarce, seed=0, model=tmp_path / "model.onnx")
    assert outcome.state == "trained", outcome.reason
    assert Candidate.from_dict(candidate.to_dict()) == candidate
    assert CONTROLS["no_teacher"].make(candidate, scarce, 0).teaching == Teaching()


def test_folds_that_cannot_be_made_are_refused(scarce: TrialContext) -> None:
    rules = candidate_rules(scarce, seed=0)
    with pytest.raises(RequestError, match=r"2 <= folds <= 40 \(samples with a label\) must hold, but got folds=41"):
        rules.require(replace(BASE, teaching=Teaching(teacher="out_of_fold", folds=41)))
    with pytest.raises(RequestError, match="'out_of_fold' needs a loss on the teacher's logits, such as kd"):
        rules.require(
            replace(BASE, losses=(*cross_entropy(), LossTerm(name="fitnet")), teaching=Teaching(teacher="out_of_fold"))
        )
