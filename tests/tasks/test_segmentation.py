"""Segmentation: hand-worked figures, pixels without a label, and losses per pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, jaccard_score

from nas_compress.errors import RequestError
from nas_compress.losses.table import TERMS
from nas_compress.losses.term_kinds import LogitTerm
from nas_compress.losses.training_loss import TrainingLoss
from nas_compress.models.features import Observation
from nas_compress.tasks import scores
from nas_compress.tasks.segmentation import Segmentation
from nas_compress.values.candidate import LossTerm
from nas_compress.values.signature import TensorSpec

IMAGE = TensorSpec(name="input", dtype="uint8", shape=("N", 1, 2, 3))
TASK = Segmentation(inputs=(IMAGE,), class_count=3)
MASK = np.array([[[0, 0, 1], [1, 1, 255]]], dtype=np.uint8)
ANSWERS = np.array([[[0, 1, 1], [1, 0, 2]]], dtype=np.uint8)


def logits_of(answers: np.ndarray) -> np.ndarray:
    return np.moveaxis(4.0 * np.eye(3, dtype=np.float32)[answers], -1, 1)


def test_figures_follow_their_definitions() -> None:
    # class 0: 1 pixel of both, 3 of either; class 1: 2 of both, 4 of either; class 2 was labelled and answered nowhere
    expected = {"mean_iou": (1 / 3 + 2 / 4) / 2, "pixel_accuracy": 3 / 5}
    for outputs in ({"logits": logits_of(ANSWERS)}, {"logits": ANSWERS}, TASK.compact({"logits": logits_of(ANSWERS)})):
        assert TASK.measure(outputs, {"mask": MASK}) == pytest.approx(expected)
    assert TASK.compact({"logits": logits_of(ANSWERS)})["logits"].nbytes == ANSWERS.nbytes
    assert (TASK.chance("mean_iou"), TASK.chance("pixel_accuracy")) == (pytest.approx(1 / 5), pytest.approx(1 / 3))


def test_figures_are_those_of_scikit_learn_for_any_size_of_the_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = np.random.default_rng(0)
    mask, answers = chance.integers(0, 3, (2, 7, 5, 4)).astype(np.uint8)
    mask[chance.random(mask.shape) < 0.2] = 255
    known = mask != 255
    for size in (1, 50, 2**22):
        monkeypatch.setattr(scores, "AT_ONCE", size)
        figures = TASK.measure({"logits": answers}, {"mask": mask})
        assert figures["mean_iou"] == pytest.approx(jaccard_score(mask[known], answers[known], average="macro"))
        assert figures["pixel_accuracy"] == pytest.approx(accuracy_score(mask[known], answers[known]))
    assert TASK.measure({"logits": answers}, {"mask": np.full_like(mask, 255)}) == dict.fromkeys(TASK.metrics, 0.0)


def test_random_answers_have_the_chance_levels() -> None:
    mask, answers = np.random.default_rng(0).integers(0, 3, (2, 1, 400, 400)).astype(np.uint8)
    figures = TASK.measure({"logits": answers}, {"mask": mask})
    assert figures == {name: pytest.approx(TASK.chance(name), abs=0.01) for name in TASK.metrics}


def test_the_base_loss_is_the_mean_over_labelled_pixels() -> None:
    logits = torch.randn(1, 3, 2, 3)
    targets = {"mask": torch.from_numpy(MASK)}
    pairs = [(row, column) for row in range(2) for column in range(3) if MASK[0, row, column] != 255]
    each = [-logits[0, :, r, c].log_softmax(0)[int(MASK[0, r, c])] for r, c in pairs]
    torch.testing.assert_close(TASK.base_loss({"logits": logits}, targets), torch.stack(each).mean())
    empty = {"mask": torch.full((1, 2, 3), 255, dtype=torch.uint8)}
    assert TASK.base_loss({"logits": logits}, empty) == 0


@pytest.mark.parametrize("name", [name for name, term in TERMS.items() if isinstance(term, LogitTerm)])
def test_a_term_on_logits_sees_every_pixel_as_a_sample_and_leaves_out_those_without_a_label(name: str) -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 1, 3, 2, 3)
    mask = torch.from_numpy(MASK)
    labelled = "labels" in TERMS[name].targets  # type: ignore[union-attr]
    loss = TrainingLoss(TASK, [LossTerm(name=name)])

    def value(of_student: torch.Tensor, of_teacher: torch.Tensor, of_mask: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(1)
        seen = Observation(outputs={"logits": of_student})
        answers = TASK.logits({"logits": of_teacher})
        return loss(seen, {"mask": of_mask}, answers=answers, progress=0.5)[name]

    whole = value(student, teacher, mask)
    assert bool(torch.isfinite(whole))
    flat = [tensor.movedim(1, -1).reshape(6, 3)[: 5 if labelled else 6] for tensor in (student, teacher)]
    alone = [rows.T[None, :, None, :] for rows in flat]
    count = alone[0].shape[-1]
    line = Segmentation(inputs=(TensorSpec(name="input", dtype="uint8", shape=("N", 1, 1, count)),), class_count=3)
    other = TrainingLoss(line, [LossTerm(name=name)])
    torch.manual_seed(1)
    expected = other(
        Observation(outputs={"logits": alone[0]}),
        {"mask": mask.reshape(1, 1, 6)[:, :, :count]},
        answers=line.logits({"logits": alone[1]}),
        progress=0.5,
    )[name]
    torch.testing.assert_close(whole, expected)
    if labelled:
        assert value(student, teacher, torch.full_like(mask, 255)) == 0


def test_impossible_shapes_are_refused() -> None:
    with pytest.raises(RequestError, match="2 <= class_count <= 255 must hold, but got class_count=1"):
        Segmentation(inputs=(IMAGE,), class_count=1)
    with pytest.raises(RequestError, match=r"segmentation needs images \(N, C, H, W\), but got row"):
        Segmentation(inputs=(TensorSpec(name="row", dtype="float32", shape=("N", 4)),), class_count=2)
