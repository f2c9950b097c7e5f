from __future__ import annotations

import pytest
import torch

from nas_compress.errors import RequestError
from nas_compress.tasks.batch import named_outputs, require_fitting, split, zeros
from nas_compress.values.signature import TensorSpec

SPECS = (
    TensorSpec(name="tokens", dtype="int64", shape=("N", "T")),
    TensorSpec(name="mask", dtype="bool", shape=("N", "T")),
    TensorSpec(name="image", dtype="uint8", shape=("N", 3)),
)


def test_zeros_fit_their_own_signature() -> None:
    batch = zeros(SPECS, 5, free=7)
    require_fitting(batch, SPECS)
    assert batch["tokens"].shape == (5, 7) and batch["mask"].dtype == torch.bool
    assert [len(part["image"]) for part in split(batch, 2)] == [2, 2, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask": torch.zeros(5, 6, dtype=torch.bool)}, r"mask must be bool \(5, 7\), but got bool \(5, 6\)"),
        ({"image": torch.zeros(5, 3)}, r"image must be uint8 \(5, 3\), but got float32 \(5, 3\)"),
        ({"image": torch.zeros(4, 3, dtype=torch.uint8)}, r"image must be uint8 \(5, 3\), but got uint8 \(4, 3\)"),
        ({"more": torch.zeros(5)}, "tensors must be tokens, mask, image in this order, but got"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(change: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        require_fitting({**zeros(SPECS, 5, free=7), **change}, SPECS)


def test_outputs_are_named_in_order() -> None:
    first, second = torch.zeros(2), torch.ones(2)
    assert named_outputs((first, second), ["a", "b"])["b"] is second
    with pytest.raises(RequestError, match=r"must return 2 outputs \(a, b\), but got 1"):
        named_outputs(first, ["a", "b"])
