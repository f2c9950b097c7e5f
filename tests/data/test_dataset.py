import logging
import pickle

import pytest
import torch

from nas_compress.data.dataset import HeldOutSplit, Split
from nas_compress.errors import RequestError

INPUTS = torch.arange(24, dtype=torch.uint8).reshape(3, 2, 2, 2)
LABELS = torch.tensor([0, 1, 0])


def test_a_split_has_the_length_of_its_labels() -> None:
    assert len(Split(name="train", inputs=INPUTS, labels=LABELS)) == 3


def test_moving_a_split_keeps_name_and_values() -> None:
    moved = Split(name="validation", inputs=INPUTS, labels=LABELS).to("cpu")
    assert moved.name == "validation"
    assert torch.equal(moved.inputs, INPUTS)
    assert torch.equal(moved.labels, LABELS)


def test_moving_a_split_moves_both_tensors() -> None:
    moved = Split(name="train", inputs=INPUTS, labels=LABELS).to("meta")
    assert moved.inputs.device.type == moved.labels.device.type == "meta"


def test_the_held_out_split_has_no_samples_to_take() -> None:
    held_out = HeldOutSplit(inputs=INPUTS, labels=LABELS)
    assert len(held_out) == 3
    assert not isinstance(held_out, Split)
    public = [name for name in dir(held_out) if not name.startswith("_")]
    assert public == ["reveal"]
    assert "tensor" not in repr(held_out)


def test_revealing_hands_out_the_samples_and_logs_why(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="nas_compress"):
        revealed = HeldOutSplit(inputs=INPUTS, labels=LABELS).reveal(purpose="confirm the front")
    assert revealed.name == "test"
    assert torch.equal(revealed.inputs, INPUTS)
    assert torch.equal(revealed.labels, LABELS)
    assert "confirm the front" in caplog.text


@pytest.mark.parametrize("purpose", ["", "  \n"])
def test_revealing_without_a_purpose_is_refused(purpose: str) -> None:
    with pytest.raises(RequestError, match="purpose must say why"):
        HeldOutSplit(inputs=INPUTS, labels=LABELS).reveal(purpose=purpose)


def test_a_held_out_split_travels_to_another_process() -> None:
    held_out = pickle.loads(pickle.dumps(HeldOutSplit(inputs=INPUTS, labels=LABELS)))
    assert torch.equal(held_out.reveal(purpose="test").inputs, INPUTS)


@pytest.mark.parametrize(
    ("inputs", "labels"),
    [
        (INPUTS.float(), LABELS),
        (INPUTS[0], LABELS),
        (INPUTS, LABELS.int()),
        (INPUTS, LABELS[:2]),
        (INPUTS, LABELS[:, None]),
    ],
)
def test_tensors_of_another_kind_are_refused(inputs: torch.Tensor, labels: torch.Tensor) -> None:
    with pytest.raises(RequestError, match="must be"):
        Split(name="train", inputs=inputs, labels=labels)
    with pytest.raises(RequestError, match="must be"):
        HeldOutSplit(inputs=inputs, labels=labels)
