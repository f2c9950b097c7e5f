import logging
import pickle

import pytest
import torch

from nas_compress.data.augment.shift_and_flip import ShiftAndFlip
from nas_compress.data.dataset import Dataset, HeldOutSplit, Split
from nas_compress.errors import RequestError
from nas_compress.tasks.classification import Classification
from nas_compress.values.normalisation import Normalisation

INPUTS = {"input": torch.arange(24, dtype=torch.uint8).reshape(3, 2, 2, 2)}
TARGETS = {"label": torch.tensor([0, 1, 0])}


def dataset(inputs: dict[str, torch.Tensor], targets: dict[str, torch.Tensor], *, broken: str) -> Dataset:
    def parts(split: str) -> dict[str, dict[str, torch.Tensor]]:
        whole = split != broken
        return {"inputs": INPUTS if whole else inputs, "targets": TARGETS if whole else targets}

    return Dataset(
        name="small",
        task=Classification.of_images(shape=(2, 2, 2), classes=2),
        train=Split(name="train", **parts("train")),
        validation=Split(name="validation", **parts("validation")),
        test=HeldOutSplit(**parts("test")),
        normalisation={"input": Normalisation(mean=12, std=7.0)},
        augmentation=ShiftAndFlip(),
        fingerprint="0" * 16,
    )


def test_a_split_has_the_length_of_its_samples() -> None:
    split = Split(name="train", inputs=INPUTS, targets=TARGETS)
    assert len(split) == 3 and len(split.first(2)) == 2 and len(split.first(9)) == 3
    assert torch.equal(split.first(2).inputs["input"], INPUTS["input"][:2])


def test_moving_a_split_keeps_name_and_values() -> None:
    moved = Split(name="validation", inputs=INPUTS, targets=TARGETS).to("cpu")
    assert moved.name == "validation"
    assert torch.equal(moved.inputs["input"], INPUTS["input"])
    assert torch.equal(moved.targets["label"], TARGETS["label"])


def test_moving_a_split_moves_all_tensors() -> None:
    moved = Split(name="train", inputs=INPUTS, targets=TARGETS).to("meta")
    assert moved.inputs["input"].device.type == moved.targets["label"].device.type == "meta"


def test_the_held_out_split_has_no_samples_to_take() -> None:
    held_out = HeldOutSplit(inputs=INPUTS, targets=TARGETS)
    assert len(held_out) == 3
    assert not isinstance(held_out, Split)
    public = [name for name in dir(held_out) if not name.startswith("_")]
    assert public == ["require_fitting", "reveal"]
    assert "tensor" not in repr(held_out)


def test_revealing_returns_the_samples_and_logs_why(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="nas_compress"):
        revealed = HeldOutSplit(inputs=INPUTS, targets=TARGETS).reveal(purpose="confirm the front")
    assert revealed.name == "test"
    assert revealed.inputs is INPUTS and revealed.targets is TARGETS
    assert "confirm the front" in caplog.text


@pytest.mark.parametrize("purpose", ["", "  \n"])
def test_revealing_without_a_purpose_is_refused(purpose: str) -> None:
    with pytest.raises(RequestError, match="purpose must say why"):
        HeldOutSplit(inputs=INPUTS, targets=TARGETS).reveal(purpose=purpose)


def test_a_held_out_split_travels_to_another_process() -> None:
    held_out = pickle.loads(pickle.dumps(HeldOutSplit(inputs=INPUTS, targets=TARGETS)))
    assert torch.equal(held_out.reveal(purpose="test").inputs["input"], INPUTS["input"])


def test_every_sample_needs_its_target() -> None:
    with pytest.raises(RequestError, match="one row per sample, but got input: 3, label: 2"):
        Split(name="train", inputs=INPUTS, targets={"label": TARGETS["label"][:2]})
    with pytest.raises(RequestError, match="one row per sample, but got input: 3, label: 2"):
        HeldOutSplit(inputs=INPUTS, targets={"label": TARGETS["label"][:2]})


@pytest.mark.parametrize("broken", ["train", "validation", "test"])
@pytest.mark.parametrize(
    ("inputs", "targets", "message"),
    [
        ({"input": INPUTS["input"].float()}, TARGETS, r"input must be uint8 \(3, 2, 2, 2\), but got float32"),
        ({"input": INPUTS["input"][:, 0]}, TARGETS, r"but got uint8 \(3, 2, 2\)"),
        ({"image": INPUTS["input"]}, TARGETS, "tensors must be input in this order, but got image"),
        (INPUTS, {"label": TARGETS["label"].int()}, r"label must be int64 \(3,\), but got int32"),
        (INPUTS, {"label": TARGETS["label"][:, None]}, r"label must be int64 \(3,\), but got int64 \(3, 1\)"),
        (INPUTS, {}, "tensors must be label in this order, but got none"),
    ],
)
def test_splits_that_do_not_fit_the_task_are_refused(inputs, targets, message: str, broken: str) -> None:
    with pytest.raises(RequestError, match=message):
        dataset(inputs, targets, broken=broken)


def test_splits_of_the_task_are_accepted() -> None:
    assert len(dataset(INPUTS, TARGETS, broken="").train) == 3
