"""Map-style torch data sets, read to arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset as TorchDataset

from nas_compress.data.arrays import as_array, kind_of, stored_bytes
from nas_compress.errors import describe, refusal

READ_TWICE = 8
"""Samples that are read a second time, to find data sets that draw random values."""


def read_dataset(dataset: TorchDataset[Any], split: str, where: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return all samples (N, ...) and targets (N, ...) of a data set of (sample, target).

    Floats that are bytes divided by 255 become bytes again. RequestError if samples have several shapes, or if a
    sample differs at a second reading.
    """
    samples = _length(dataset, split, where)
    first, target = _item(dataset, 0, split, where)
    inputs, targets = np.empty((samples, *first.shape), first.dtype), np.empty((samples, *target.shape), target.dtype)
    for index in range(samples):
        sample, target = _item(dataset, index, split, where)
        if sample.shape != first.shape or target.shape != targets.shape[1:]:
            rule = f"samples of {split} must have one shape, {first.shape} as the first"
            found = sample.shape if sample.shape != first.shape else target.shape
            raise refusal(f"{rule}, but got {found} at index {index}", where)
        if sample.dtype != first.dtype or target.dtype.kind != targets.dtype.kind:
            rule = f"samples of {split} must have one type, {first.dtype} with targets {targets.dtype} as the first"
            raise refusal(f"{rule}, but got {sample.dtype} with {target.dtype} at index {index}", where)
        inputs[index], targets[index] = sample, target
    _require_repeatable(dataset, inputs, split, where)
    stored = stored_bytes(inputs)
    return (inputs if stored is None else stored), targets


def _require_repeatable(dataset: TorchDataset[Any], inputs: NDArray[Any], split: str, where: str) -> None:
    for index in np.linspace(0, len(inputs) - 1, min(READ_TWICE, len(inputs))).astype(int).tolist():
        again, _ = _item(dataset, index, split, where)
        if not np.array_equal(again, inputs[index], equal_nan=again.dtype.kind == "f"):
            raise refusal(
                f"a data set must return the same values for the same index, but {split}[{index}] differs at a second "
                "reading; return the plain samples and name the random changes by [data] augment",
                where,
            )


def _length(dataset: TorchDataset[Any], split: str, where: str) -> int:
    try:
        samples = len(dataset)  # type: ignore[arg-type]  # torch's Dataset leaves __len__ to its subclasses
    except Exception as error:
        raise refusal(f"{split} must have a length, but len() raised {describe(error)}", where) from error
    if samples == 0:
        raise refusal(f"{split} must not be empty, but got a Dataset of length 0", where)
    return samples


def _item(dataset: TorchDataset[Any], index: int, split: str, where: str) -> tuple[NDArray[Any], NDArray[Any]]:
    place = f"{split}[{index}]"
    try:
        item = dataset[index]
    except Exception as error:
        raise refusal(f"{place} must be a sample, but reading it raised {describe(error)}", where) from error
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise refusal(f"{place} must be a pair (sample, label), but got {kind_of(item)}", where)
    target = item[1].detach().cpu().numpy() if isinstance(item[1], torch.Tensor) else item[1]
    if isinstance(target, dict):
        raise refusal(
            f"{place} must have a label, but got a mapping ({', '.join(map(str, list(target)[:3]))}); "
            "detection is not supported",
            where,
        )
    array = np.asarray(target)
    if array.dtype.kind not in "iufbU":
        raise refusal(f"labels must be integers, numbers or words, but got {kind_of(item[1])} at {place}", where)
    return _sample(item[0], place, where), array


def _sample(value: Any, place: str, where: str) -> NDArray[Any]:
    if type(value).__module__.startswith("PIL."):
        return _picture(value, place, where)
    if isinstance(value, np.generic | int | float):
        return np.asarray(value).reshape(1)
    return as_array(value, place, where)


def _picture(picture: Any, place: str, where: str) -> NDArray[np.uint8]:
    if picture.mode not in ("L", "RGB"):
        raise refusal(f"{place} must be a picture of mode L or RGB, but got {picture.mode}", where)
    array = np.asarray(picture, dtype=np.uint8)
    return array if array.ndim == 2 else array.transpose(2, 0, 1)
