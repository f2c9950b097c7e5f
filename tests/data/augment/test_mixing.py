"""Mixup and cutmix: mixtures worked out by hand, their draws, and the losses of soft targets."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from nas_compress.data.augment.mixing import Mixing, Pairs
from nas_compress.errors import RequestError
from nas_compress.losses.table import TERMS
from nas_compress.losses.term_kinds import LogitTerm
from nas_compress.losses.training_loss import TrainingLoss
from nas_compress.models.features import Observation
from nas_compress.tasks.classification import Classification
from nas_compress.tasks.multi_label import MultiLabel
from nas_compress.tasks.regression import Regression
from nas_compress.values.candidate import LossTerm
from nas_compress.values.signature import TensorSpec

IMAGE = TensorSpec(name="input", dtype="uint8", shape=("N", 1, 4, 6))
ROW = TensorSpec(name="input", dtype="float32", shape=("N", 3))


def one_pair(share: float, *, cut: bool, centre: tuple[float, float] = (0.5, 0.5)) -> Pairs:
    return Pairs(
        partner=torch.tensor([1]), share=torch.tensor([share]), cut=torch.tensor([cut]), centre=torch.tensor([centre])
    )


def test_mixup_is_the_weighted_mean_rounded_to_the_type() -> None:
    own, other = torch.full((1, 1, 4, 6), 10, dtype=torch.uint8), torch.full((1, 1, 4, 6), 21, dtype=torch.uint8)
    mixing, pairs = Mixing(mixup=0.2), one_pair(0.75, cut=False)
    found = mixing.inputs({"input": own}, {"input": other}, pairs)["input"]
    assert found.dtype == torch.uint8 and set(found.flatten().tolist()) == {13}  # 12.75
    assert mixing.shares({"input": own}, pairs).tolist() == [0.75]


def test_cutmix_pastes_a_rectangle_of_the_share_and_weighs_targets_by_its_area() -> None:
    own, other = torch.zeros(1, 1, 4, 6), torch.ones(1, 1, 4, 6)
    mixing = Mixing(cutmix=1.0)
    # sides of sqrt(1 - 0.75) = 1/2 of the image: 2 x 3, of which halves of 1 reach to both sides of (2, 3)
    pairs = one_pair(0.75, cut=True)
    found = mixing.inputs({"input": own}, {"input": other}, pairs)["input"]
    assert {tuple(place) for place in found[0, 0].nonzero().tolist()} == {(1, 2), (1, 3), (2, 2), (2, 3)}
    assert mixing.shares({"input": own}, pairs).tolist() == pytest.approx([1 - 4 / 24])
    corner = one_pair(0.75, cut=True, centre=(0.0, 0.0))  # three quarters of the rectangle are outside
    found = mixing.inputs({"input": own}, {"input": other}, corner)["input"]
    assert found[0, 0].nonzero().tolist() == [[0, 0]]
    assert mixing.shares({"input": own}, corner).tolist() == pytest.approx([1 - 1 / 24])


def test_shares_follow_the_beta_distribution_and_partners_are_a_permutation() -> None:
    pairs = Mixing(mixup=0.4).draw(4000, np.random.default_rng(0))
    assert sorted(pairs.partner.tolist()) == list(range(4000)) and not bool(pairs.cut.any())
    share = pairs.share.double()
    # Beta(a, a): mean 1/2, variance 1 / (4 (2 a + 1))
    assert float(share.mean()) == pytest.approx(0.5, abs=0.02)
    assert float(share.var()) == pytest.approx(1 / (4 * 1.8), abs=0.01)


def test_with_both_each_pair_has_one_of_them() -> None:
    mixing = Mixing(mixup=0.2, cutmix=1.0)
    pairs = mixing.draw(1000, np.random.default_rng(0))
    assert 400 < int(pairs.cut.sum()) < 600
    own, other = torch.zeros(1000, 1, 8, 8), torch.ones(1000, 1, 8, 8)
    found = mixing.inputs({"input": own}, {"input": other}, pairs)["input"].flatten(1)
    # of zeros and ones, the mean of an image is the share of its partner in both kinds
    torch.testing.assert_close(found.mean(dim=1), 1 - mixing.shares({"input": own}, pairs))
    whole = (found == found[:, :1]).all(dim=1)
    assert bool(whole[~pairs.cut].all()) and not bool(whole[pairs.cut].all())
    assert bool(((found == 0) | (found == 1))[pairs.cut].all())


SHARE = torch.tensor([0.75, 0.5])


def test_targets_of_every_task_are_mixed() -> None:
    classes = Classification(inputs=(ROW,), classes=3)
    mixed = classes.mixed({"label": torch.tensor([0, 2])}, {"label": torch.tensor([1, 2])}, SHARE)
    assert mixed["label"].tolist() == [[0.75, 0.25, 0.0], [0.0, 0.0, 1.0]]
    labels = MultiLabel(inputs=(ROW,), label_count=2)
    present = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    soft = labels.mixed({"labels": present}, {"labels": present.flip(0)}, SHARE)
    assert soft["labels"][..., 1].tolist() == [[0.75, 0.25], [0.5, 0.5]]
    numbers = Regression(inputs=(ROW,), mean=(0.0,), std=(1.0,))
    found = numbers.mixed({"targets": torch.tensor([[4.0], [8.0]])}, {"targets": torch.tensor([[0.0], [2.0]])}, SHARE)
    assert found["targets"].tolist() == [[3.0], [5.0]]


LOGITS = torch.tensor([[math.log(3), 0.0], [0.3, -0.2]])
ON_LABELS = [name for name, term in TERMS.items() if isinstance(term, LogitTerm) and term.targets == ("labels",)] + [
    "task_loss"
]


def loss_of(task, name: str, outputs: torch.Tensor, targets: dict[str, torch.Tensor]) -> float:
    loss = TrainingLoss(task, (LossTerm(name=name),))
    return float(loss(Observation(outputs={"logits": outputs}), targets)[name])


@pytest.mark.parametrize("name", ON_LABELS)
def test_soft_labels_of_one_class_give_the_loss_of_the_label(name: str) -> None:
    task, label = Classification(inputs=(ROW,), classes=2), {"label": torch.tensor([0, 1])}
    soft = task.mixed(label, label, SHARE)
    assert loss_of(task, name, LOGITS, soft) == pytest.approx(loss_of(task, name, LOGITS, label), rel=1e-5)
    many, present = MultiLabel(inputs=(ROW,), label_count=2), {"labels": torch.tensor([[1.0, 0.0], [1.0, 1.0]])}
    soft = many.mixed(present, present, SHARE)
    assert loss_of(many, name, LOGITS, soft) == pytest.approx(loss_of(many, name, LOGITS, present), rel=1e-5)


def test_cross_entropy_of_soft_labels_is_the_weighted_one() -> None:
    task, row = Classification(inputs=(ROW,), classes=2), LOGITS[:1]
    soft = task.mixed({"label": torch.tensor([0])}, {"label": torch.tensor([1])}, SHARE[:1])
    # probabilities 3/4 and 1/4
    expected = 0.75 * math.log(4 / 3) + 0.25 * math.log(4)
    for name in ("cross_entropy", "task_loss"):
        assert loss_of(task, name, row, soft) == pytest.approx(expected, rel=1e-5)


def test_a_virtual_teacher_of_soft_labels_is_a_mixture() -> None:
    """0.9 and 0.1 mixed half and half are 1/2 and 1/2; against 3/4 and 1/4 at temperature 1."""
    soft = torch.tensor([[0.5, 0.5]])
    found = TERMS["teacher_free"].bind({"confidence": 0.9, "temperature": 1.0})(LOGITS[:1], soft, LOGITS)
    assert float(found) == pytest.approx(0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25), rel=1e-5)


@pytest.mark.parametrize(
    ("mixing", "inputs", "message"),
    [
        ({"mixup": 0.2}, (TensorSpec(name="tokens", dtype="int64", shape=("N", 8)),), "mixup needs inputs of type"),
        ({"cutmix": 1.0}, (ROW,), r"cutmix needs images \(N, C, H, W\), but got input"),
        ({"mixup": 0.1, "cutmix": 1.0}, (IMAGE, IMAGE), "cutmix needs one input, but got 2; use mixup"),
    ],
)
def test_inputs_that_cannot_be_mixed_are_refused(mixing, inputs: tuple[TensorSpec, ...], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        Mixing(**mixing).check(inputs)


def test_an_alpha_of_0_is_refused() -> None:
    with pytest.raises(RequestError, match=r"mixup > 0 \(alpha of the Beta distribution\) must hold, but got mixup=0"):
        Mixing(mixup=0.0)
