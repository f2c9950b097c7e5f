"""Views by seed: fixed for each sample, different from each other, and nothing of validation and test."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from nas_compress.data.augment.choose import VIEWS, Drawing, drawn
from nas_compress.data.augment.drawn_views import DrawnViews
from nas_compress.data.augment.protocol import NoAugmentation
from nas_compress.data.augment.shift_and_flip import ShiftAndFlip
from nas_compress.data.load_dataset import load_dataset
from nas_compress.errors import RequestError
from nas_compress.tasks.batch import rows
from nas_compress.tasks.classification import Classification
from nas_compress.tasks.task import Task
from nas_compress.values.signature import TensorSpec

TASK = Classification.of_images(shape=(2, 8, 8), classes=3)
EVERYTHING = Drawing(crop=0.25, erase=0.5, mixup=0.4, cutmix=1.0, views=3)
COUNT = 40


def inputs() -> dict[str, torch.Tensor]:
    pixels = torch.randint(0, 256, (COUNT, 2, 8, 8), generator=torch.Generator().manual_seed(0))
    return {"input": pixels.to(torch.uint8)}


def labels() -> dict[str, torch.Tensor]:
    return {"label": torch.arange(COUNT) % 3}


def views(drawing: Drawing = EVERYTHING, seed: int = 0) -> DrawnViews:
    chosen = drawn(ShiftAndFlip(shift=1, flip=True), drawing, task=TASK, seed=seed)
    assert isinstance(chosen, DrawnViews)
    return chosen


def whole(augmentation: DrawnViews, view: int) -> torch.Tensor:
    return augmentation.over(inputs()).batch(torch.arange(COUNT), view)["input"]


def test_a_view_is_fixed_by_seed_and_number_whatever_the_batch_and_the_order() -> None:
    first, second = views().over(inputs()), views().over(inputs())
    order = torch.randperm(COUNT, generator=torch.Generator().manual_seed(1))
    for view in (2, 0, 1, 2):
        expected, soft = whole(views(), view), second.targets(labels(), torch.arange(COUNT), view)["label"]
        for index in order.split(7):
            assert torch.equal(first.batch(index, view)["input"], expected[index])
            assert torch.equal(first.targets(labels(), index, view)["label"], soft[index])


def test_views_and_seeds_differ_and_keep_type_and_shape() -> None:
    found = [whole(views(seed=seed), view) for seed in (0, 1) for view in range(3)]
    assert len({tuple(each.flatten().tolist()) for each in found}) == 6
    assert all(each.shape == (COUNT, 2, 8, 8) and each.dtype == torch.uint8 for each in found)


def test_samples_of_a_batch_have_draws_of_their_own() -> None:
    same = {"input": inputs()["input"][:1].expand(COUNT, 2, 8, 8)}
    found = views(Drawing(crop=0.25)).over(same).batch(torch.arange(COUNT), 0)["input"]
    assert len({tuple(each.flatten().tolist()) for each in found}) > COUNT // 2


def test_targets_are_mixed_with_the_partner_of_the_inputs() -> None:
    """Images of one value each show the shares; the soft label must have them too."""
    values = torch.arange(COUNT, dtype=torch.float32)
    pixels = {"input": torch.stack([1 - values % 2, values % 2], 1)[..., None, None].expand(COUNT, 2, 8, 8)}
    seen = drawn(NoAugmentation(), Drawing(mixup=1.0, cutmix=1.0), task=replace(TASK, classes=2), seed=0).over(pixels)
    for view in range(3):
        index = torch.tensor([5, 30, 2])
        soft = seen.targets({"label": (values % 2).long()}, index, view)["label"]
        torch.testing.assert_close(seen.batch(index, view)["input"].mean(dim=(2, 3)), soft)


def test_epochs_take_the_views_in_turn() -> None:
    assert [views().view_of(epoch) for epoch in range(5)] == [0, 1, 2, 0, 1]
    assert ShiftAndFlip(shift=1).view_of(3) is None and NoAugmentation().view_of(3) is None
    assert views(Drawing(crop=0.5)).count == VIEWS
    with pytest.raises(RequestError, match="0 <= view < 3 must hold, but got view=3"):
        whole(views(), 3)


def test_shift_and_flip_alone_stay_as_they_were() -> None:
    base = ShiftAndFlip(shift=1, flip=True)
    assert drawn(base, Drawing(), task=TASK, seed=0) is base
    assert views(Drawing(views=4)).transforms == views(Drawing(crop=0.5)).transforms[1:]


def test_every_setting_enters_the_identity() -> None:
    changed = [
        EVERYTHING,
        *(replace(EVERYTHING, **{name: value}) for name, value in {
            "crop": 0.5, "erase": 0.25, "mixup": 0.1, "cutmix": 0.5, "views": 4,
        }.items()),
    ]  # fmt: skip
    assert len({views(each).identity for each in changed} | {views(seed=1).identity}) == 7


def test_validation_and_test_stay_plain_and_the_training_split_itself_too() -> None:
    plain = load_dataset(name="digits", train_samples=60)
    data = load_dataset(name="digits", train_samples=60, drawing=Drawing(crop=0.25, mixup=0.2))
    for name in ("train", "validation"):
        assert torch.equal(getattr(data, name).inputs["input"], getattr(plain, name).inputs["input"])
        assert torch.equal(getattr(data, name).targets["label"], getattr(plain, name).targets["label"])
    revealed = [each.test.reveal(purpose="to compare").inputs["input"] for each in (data, plain)]
    assert torch.equal(*revealed)
    assert data.fingerprint != plain.fingerprint and data.augmentation.mixes
    assert torch.equal(rows(data.example, 0, 2)["input"], data.train.inputs["input"][:2])


class Bare(Task):
    """A task without soft targets."""

    name = "bare"
    targets = ()
    signature = TASK.signature


def test_what_cannot_be_augmented_is_refused_before_the_study() -> None:
    with pytest.raises(RequestError, match="views need an augmentation, but got views=4 alone"):
        drawn(NoAugmentation(), Drawing(views=4), task=TASK, seed=0)
    mixing = drawn(NoAugmentation(), Drawing(mixup=0.2), task=Bare(), seed=0)  # type: ignore[abstract]
    with pytest.raises(RequestError, match="mixup and cutmix need soft targets, but the task bare has none"):
        mixing.check(TASK.signature.inputs)
    with pytest.raises(RequestError, match="crop needs images"):
        views().check((TensorSpec(name="input", dtype="float32", shape=("N", 4)),))
    with pytest.raises(RequestError, match=r"0 < crop < 1 .* \(study.toml: data.name\)$"):
        load_dataset(name="digits", drawing=Drawing(crop=2.0), where="study.toml: data.name")
