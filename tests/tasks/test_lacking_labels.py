"""Losses of tasks whose training samples may have no label."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from nas_compress.errors import RequestError
from nas_compress.losses.training_loss import TrainingLoss
from nas_compress.models.features import Observation
from nas_compress.tasks.class_weights import class_counts, sampling_weights
from nas_compress.tasks.classification import Classification
from nas_compress.tasks.multi_label import MultiLabel
from nas_compress.tasks.regression import Regression
from nas_compress.tasks.table import TASKS
from nas_compress.values.teaching import LossTerm

OUTPUTS = {
    "classification": {"logits": torch.tensor([[2.0, 0.0, -1.0], [0.0, 1.0, 0.0], [5.0, 5.0, 5.0]])},
    "multi_label": {"logits": torch.tensor([[1.0, -1.0, 0.5, 2.0], [0.0, 0.0, 3.0, 1.0], [9.0, 9.0, 9.0, 9.0]])},
    "regression": {"values": torch.tensor([[1.0, 2.0], [0.0, 8.0], [100.0, 100.0]])},
}
TARGETS = {
    "classification": {"label": torch.tensor([0, 2, -1])},
    "multi_label": {"labels": torch.tensor([[1.0, 0, 0, 1], [0, 0, 1, 1], [float("nan")] * 4])},
    "regression": {"targets": torch.tensor([[0.0, 2.0], [1.0, 3.0], [float("nan")] * 2])},
}

every = pytest.mark.parametrize("name", OUTPUTS)


def task_of(name: str) -> Classification | MultiLabel | Regression:
    task = TASKS[name].example
    assert isinstance(task, Classification | MultiLabel | Regression)
    return replace(task, lacks_labels=True)


@every
def test_the_base_loss_is_that_of_the_labelled_samples(name: str) -> None:
    task, plain = task_of(name), TASKS[name].example
    outputs, targets = OUTPUTS[name], TARGETS[name]
    assert task.labelled(targets).tolist() == [True, True, False]
    first = [{key: values[:2] for key, values in batch.items()} for batch in (outputs, targets)]
    torch.testing.assert_close(task.base_loss(outputs, targets), plain.base_loss(*first))


@every
def test_a_batch_without_labels_has_no_loss_and_no_gradient(name: str) -> None:
    task = task_of(name)
    outputs = {key: values[2:].clone().requires_grad_() for key, values in OUTPUTS[name].items()}
    loss = task.base_loss(outputs, {key: values[2:] for key, values in TARGETS[name].items()})
    loss.backward()
    (values,) = outputs.values()
    assert loss == 0 and values.grad is not None and not bool(values.grad.any())


@pytest.mark.parametrize("name", ["classification", "multi_label"])
def test_terms_on_labels_leave_samples_out_and_terms_on_the_teacher_do_not(name: str) -> None:
    task = task_of(name)
    terms = (LossTerm(name="cross_entropy"), LossTerm(name="kd"))

    def total(samples: int) -> dict[str, torch.Tensor]:
        student, targets = ({k: v[:samples] for k, v in b.items()} for b in (OUTPUTS[name], TARGETS[name]))
        answers = -task.logits(student)
        return TrainingLoss(task, terms)(Observation(outputs=student), targets, answers=answers)

    torch.testing.assert_close(total(3)["cross_entropy"], total(2)["cross_entropy"])
    # hand-worked: the third sample of the classification has equal logits, so its divergence is 0
    if name == "classification":
        torch.testing.assert_close(total(3)["kd"] * 3, total(2)["kd"] * 2)


def test_classes_are_counted_by_labels_alone_and_a_balanced_sampler_is_refused() -> None:
    task = task_of("classification")
    assert class_counts(task, TARGETS["classification"]).tolist() == [1, 0, 1]
    with pytest.raises(RequestError, match='sampler = "balanced" needs a label of every sample'):
        sampling_weights(task, TARGETS["classification"])
