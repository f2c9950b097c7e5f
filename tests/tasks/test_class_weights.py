"""Rare classes: weights in losses, by hand and as in scikit-learn, and an order that draws classes equally often."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn

from nas_compress.config.schema import StudySpec
from nas_compress.config.study_file import StudyFile, parse_spec
from nas_compress.data.augment.protocol import NoAugmentation
from nas_compress.data.dataset import Split
from nas_compress.errors import RequestError
from nas_compress.losses.training_loss import TrainingLoss
from nas_compress.models.features import Observation
from nas_compress.search.setup import gather
from nas_compress.tasks.batch import Batch
from nas_compress.tasks.class_weights import class_counts, sampling_weights, with_class_weights
from nas_compress.tasks.classification import Classification
from nas_compress.tasks.segmentation import Segmentation
from nas_compress.tasks.table import TASKS
from nas_compress.training.loop import train
from nas_compress.values.candidate import LossTerm
from nas_compress.values.signature import TensorSpec

ROW = TensorSpec(name="input", dtype="float32", shape=("N", 2))
TASK = Classification(inputs=(ROW,), classes=3, class_names=("cat", "dog", "eel"))
LABELS = torch.tensor([0] * 60 + [1] * 30 + [2] * 6)


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    weighted = with_class_weights(TASK, "balanced", {"label": LABELS}, where="w")
    expected = compute_class_weight("balanced", classes=np.arange(3), y=LABELS.numpy())
    assert weighted.class_weights == pytest.approx(expected.tolist())


def test_weights_go_by_name_or_in_order() -> None:
    for given in ({"eel": 4.0}, [1.0, 1.0, 4.0]):
        weighted = with_class_weights(TASK, given, {"label": LABELS}, where="w")
        assert weighted.class_weights == (1.0, 1.0, 4.0)
    numbered = Classification(inputs=(ROW,), classes=3)
    assert with_class_weights(numbered, {"2": 4.0}, {"label": LABELS}, where="w").class_weights == (1.0, 1.0, 4.0)


@pytest.mark.parametrize("name", ["task_loss", "cross_entropy"])
def test_a_loss_on_labels_is_the_weighted_mean(name: str) -> None:
    weighted = with_class_weights(TASK, [1.0, 2.0, 5.0], {}, where="w")
    logits, labels = torch.randn(4, 3), torch.tensor([0, 1, 2, 2])
    each = -logits.log_softmax(1)[range(4), labels]
    expected = (each * torch.tensor([1.0, 2.0, 5.0, 5.0])).sum() / 13
    loss = TrainingLoss(weighted, [LossTerm(name=name)])
    found = loss(Observation(outputs={"logits": logits}), {"label": labels})[name]
    torch.testing.assert_close(found, expected)


def test_pixels_are_counted_and_weighted_without_those_that_have_no_label() -> None:
    image = TensorSpec(name="input", dtype="uint8", shape=("N", 1, 2, 2))
    task = Segmentation(inputs=(image,), class_count=2)
    mask = torch.tensor([[[0, 0], [1, 255]]], dtype=torch.uint8)
    assert class_counts(task, {"mask": mask}).tolist() == [2, 1]
    weighted = with_class_weights(task, "balanced", {"mask": mask}, where="w")
    assert weighted.class_weights == pytest.approx((0.75, 1.5))
    logits = torch.randn(1, 2, 2, 2)
    logs = logits.log_softmax(1)[0]
    expected = -(0.75 * logs[0, 0, 0] + 0.75 * logs[0, 0, 1] + 1.5 * logs[1, 1, 0]) / 3
    torch.testing.assert_close(weighted.base_loss({"logits": logits}, {"mask": mask}), expected)
    smoothed = TrainingLoss(weighted, [LossTerm(name="cross_entropy")])
    seen = smoothed(Observation(outputs={"logits": logits}), {"mask": mask})["cross_entropy"]
    torch.testing.assert_close(seen, expected)


def test_a_loss_without_weights_is_refused_by_name() -> None:
    weighted = with_class_weights(TASK, [1, 2, 3], {}, where="w")
    with pytest.raises(RequestError, match=r"needs losses on labels that take weights .* but got 'teacher_free'"):
        TrainingLoss(weighted, [LossTerm(name="teacher_free")])
    TrainingLoss(weighted, [LossTerm(name="cross_entropy"), LossTerm(name="kd")])


class Counting(nn.Module):
    """A linear model that notes the first number of each sample."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 3)
        self.seen: list[float] = []

    def forward(self, rows: Tensor) -> Tensor:
        if self.training:
            self.seen += rows[:, 0].tolist()
        result: Tensor = self.linear(rows)
        return result


class Plain:
    """Cross-entropy."""

    learners = ()

    def __call__(
        self, model: nn.Module, batch: Batch, targets: Batch, *, view: int, index: Tensor, progress: float
    ) -> dict[str, Tensor]:
        return {"loss": nn.functional.cross_entropy(model(*batch.values()), targets["label"])}


def seen_by(draws: Tensor | None, seed: int) -> list[float]:
    rows = torch.stack([torch.arange(96.0), torch.zeros(96)], dim=1)
    samples = Split(name="train", inputs={"input": rows}, targets={"label": LABELS})
    model = Counting()
    train(
        model,
        samples,
        NoAugmentation(),
        objective=Plain(),
        epochs=20,
        batch_size=32,
        learning_rate=1e-4,
        weight_decay=0.0,
        seed=seed,
        draws=draws,
        macs=1,
    )
    return model.seen


def test_a_balanced_order_draws_every_class_equally_often_and_the_seed_decides() -> None:
    draws = sampling_weights(TASK, {"label": LABELS})
    first, again, other = seen_by(draws, 0), seen_by(draws, 0), seen_by(draws, 1)
    assert first == again != other and len(first) == 20 * 96
    shares = np.bincount(LABELS[torch.tensor(first).long()].numpy()) / len(first)
    assert shares.tolist() == pytest.approx([1 / 3] * 3, abs=0.05)
    assert sorted(seen_by(None, 0)[:96]) == list(range(96))


def spec(training: Mapping[str, object]) -> StudySpec:
    return parse_spec({"name": "m", "space": "cnn", "data": {"name": "digits"}, "training": dict(training)}, "s.toml")


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"class_weight": [1.0, 2.0]}, "s.toml: training.class_weight must be 10 weights of at least 0"),
        ({"class_weight": [0.0] * 10}, "not all 0"),
        (
            {"class_weight": {"eleven": 2.0}},
            "a class must be a known name, but got 'eleven' (s.toml: training.class_weight)",
        ),
        ({"class_weight": "balance"}, "training.class_weight"),
        ({"sampler": "even"}, "training.sampler"),
    ],
)
def test_a_bad_setting_is_one_line(training: dict[str, object], message: str) -> None:
    with pytest.raises(RequestError) as caught:
        gather(StudyFile(spec=spec(training), folder=Path(), label="s.toml"))
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["multi_label", "regression"])
def test_a_task_without_one_class_is_refused(name: str) -> None:
    task = TASKS[name].example
    calls: list[Callable[[], object]] = [
        lambda: with_class_weights(task, "balanced", {}, where="training.class_weight"),
        lambda: sampling_weights(task, {}, where="training.sampler"),
    ]
    for call in calls:
        with pytest.raises(RequestError, match=f"one class for each sample.*the task is {name}"):
            call()


def test_a_study_keeps_its_identity_without_these_keys() -> None:
    assert {"class_weight", "sampler"}.isdisjoint(spec({}).model_dump()["training"])
    given = spec({"class_weight": "balanced", "sampler": "balanced"})
    assert spec(given.model_dump(mode="json")["training"]) == given
