"""Token ids: their signature, the checks of a split, and their masks in a network."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nas_compress.data.augment.protocol import NoAugmentation
from nas_compress.data.dataset import Dataset, HeldOutSplit, Split
from nas_compress.errors import RequestError
from nas_compress.models.token_padding import masked_max, masked_mean, token_counts, token_mask
from nas_compress.tasks.batch import zeros
from nas_compress.tasks.classification import Classification
from nas_compress.values.signature import Signature, TensorSpec

SIGNATURE = Signature.of_tokens(vocabulary=10, classes=2)


def dataset_of(ids: Tensor) -> Dataset:
    good = torch.tensor([[1, 2], [3, 0]], dtype=torch.int32)
    labels = torch.zeros(2, dtype=torch.int64)
    return Dataset(
        name="ids",
        task=Classification(inputs=SIGNATURE.inputs, classes=2),
        train=Split(name="train", inputs={"input": ids}, targets={"label": torch.zeros(len(ids), dtype=torch.int64)}),
        validation=Split(name="validation", inputs={"input": good}, targets={"label": labels}),
        test=HeldOutSplit(inputs={"input": good}, targets={"label": labels}),
        normalisation={},
        augmentation=NoAugmentation(),
        fingerprint="0" * 16,
    )


def test_a_signature_of_tokens_is_read_back_from_its_plain_values() -> None:
    assert Signature.from_dict(SIGNATURE.to_dict()) == SIGNATURE
    assert SIGNATURE.vocabulary == 10


def test_other_inputs_have_no_number_of_values_in_stored_files() -> None:
    plain = Signature.of_images(shape=(1, 8, 8), classes=2).to_dict()
    assert "values" not in plain["inputs"][0]


@pytest.mark.parametrize(
    ("dtype", "shape", "values"),
    [("float32", ("N", "T"), 10), ("int32", ("N", "T"), 1), ("int32", ("N", "T", 2), 10)],
)
def test_other_tensors_are_no_token_ids(dtype: str, shape: tuple[int | str, ...], values: int) -> None:
    with pytest.raises(RequestError, match=r"token ids must be int32 or int64 \(N, T\) of 2 values or more"):
        TensorSpec(name="input", dtype=dtype, shape=shape, values=values)


def test_a_signature_without_token_ids_has_no_vocabulary() -> None:
    with pytest.raises(RequestError, match="must have one input of token ids"):
        _ = Signature.of_images(shape=(1, 8, 8), classes=2).vocabulary


def test_made_ids_are_tokens_and_not_padding() -> None:
    made = zeros(SIGNATURE.inputs, 2, free=3)["input"]
    assert made.dtype == torch.int32
    assert made.tolist() == [[1, 1, 1], [1, 1, 1]]


def test_ids_with_padding_behind_them_are_a_split() -> None:
    assert len(dataset_of(torch.tensor([[9, 1, 0], [4, 0, 0]], dtype=torch.int32)).train) == 2


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([[1, 10]], "0 <= input < 10"),
        ([[1, -1]], "0 <= input < 10"),
        ([[1, 2], [0, 2]], "input 1 begins with padding"),
        ([[1, 0, 2]], "input 0 has tokens after it"),
        ([[]], "each sample must have a token"),
    ],
)
def test_ids_that_no_network_of_tokens_can_read_are_refused(ids: list[list[int]], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        dataset_of(torch.tensor(ids, dtype=torch.int32))


def test_masked_pooling_equals_pooling_of_the_sample_alone() -> None:
    torch.manual_seed(0)
    ids = torch.tensor([[3, 4, 5], [6, 0, 0]], dtype=torch.int32)
    values = torch.randn(2, 3, 4)
    mask = token_mask(ids)
    assert token_counts(ids).tolist() == [3, 1]
    assert torch.equal(masked_max(values, mask)[1], values[1, 0])
    assert torch.allclose(masked_mean(values, mask), torch.stack([values[0].mean(dim=0), values[1, 0]]))
