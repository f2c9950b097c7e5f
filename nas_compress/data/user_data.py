"""Data from a function of the user: call it, check its splits, and convert them to arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import IterableDataset

from nas_compress.data.assemble import Images, Parts, image_parts
from nas_compress.data.stratified_split import VALIDATION_SHARE, validation_and_train
from nas_compress.data.user_task import SPLITS, require_splits, task_parts
from nas_compress.errors import describe, refusal
from nas_compress.user_code import user_callable

EXACT = 1e-3
"""Largest distance of 255 times a float from an integer to count as a stored byte; float32 rounding gives 2e-5."""

LEAST_PER_CLASS = 2
"""Least samples of a class in every split."""


def read_factory(factory: str, *, folder: Path | None, seed: int, where: str) -> Parts:
    """Call `module:callable` without arguments and check the splits that it returns.

    folder: first place on sys.path during the call. A mapping with `task` holds named tensors, see `task_parts`; any
    other holds labelled images. RequestError describes the first mistake in one line.
    """
    with user_callable(factory, folder=folder, where=where) as function:
        returned = _call(function, factory, where)
        if "task" in returned:
            return task_parts(returned, name=factory, seed=seed, where=where)
        require_splits(returned, where)
        splits = {name: _to_images(returned[name], name, where) for name in SPLITS if name in returned}
    classes = _class_count(splits["train"][1], where)
    _require_complete(splits, classes, where)
    if "validation" not in splits:
        splits = _with_validation(splits, seed)
        shown = f"validation ({VALIDATION_SHARE:.0%} of train)"
        _require_complete({"train": splits["train"], shown: splits["validation"]}, classes, where)
    return image_parts(
        name=factory,
        classes=classes,
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
    )


def _call(function: Callable[[], object], factory: str, where: str) -> Mapping[object, object]:
    try:
        returned = function()
    except Exception as error:
        raise refusal(f"{factory}() must return the splits, but raised {describe(error)}", where) from error
    if not isinstance(returned, Mapping):
        raise refusal(f"{factory}() must return a mapping of splits, but got {type(returned).__name__}", where)
    return returned


def _with_validation(splits: Mapping[str, Images], seed: int) -> dict[str, Images]:
    inputs, labels = splits["train"]
    validation, train = validation_and_train(labels, seed=seed)
    return {
        "train": (inputs[train], labels[train]),
        "validation": (inputs[validation], labels[validation]),
        "test": splits["test"],
    }


def _class_count(labels: np.ndarray, where: str) -> int:
    """Return the largest training label + 1, at least 2; no label may be negative."""
    if labels.min() < 0:
        raise refusal(f"labels >= 0 must hold in train, but got {labels.min()}", where)
    classes = int(labels.max()) + 1
    if classes < 2:
        raise refusal(f"train must have at least 2 classes (largest label + 1), but got {classes}", where)
    return classes


def _require_complete(splits: Mapping[str, Images], classes: int, where: str) -> None:
    """Refuse samples of different shapes, labels outside the classes, and classes with too few samples."""
    shape = splits["train"][0].shape[1:]
    for split, (inputs, labels) in splits.items():
        if inputs.shape[1:] != shape:
            rule = f"samples must have the shape {shape} of train in every split"
            raise refusal(f"{rule}, but got {inputs.shape[1:]} in {split}", where)
        _require_labels(labels, split, classes, where)


def _require_labels(labels: np.ndarray, split: str, classes: int, where: str) -> None:
    for label in (labels.min(), labels.max()):
        if not 0 <= label < classes:
            raise refusal(f"0 <= label < {classes} (classes of train) must hold in {split}, but got {label}", where)
    scarce, count = _scarcest(labels, classes)
    if count < LEAST_PER_CLASS:
        rule = f"{split} must have at least {LEAST_PER_CLASS} samples of each class 0 to {classes - 1}"
        raise refusal(f"{rule}, but got {count} of class {scarce}", where)


def _scarcest(labels: np.ndarray, classes: int) -> tuple[int, int]:
    """Return the class with fewest samples and their number, without memory for `classes`, which may be huge."""
    present, counts = np.unique(labels, return_counts=True)
    if len(present) < classes:
        gaps = np.flatnonzero(present != np.arange(len(present)))
        return int(gaps[0]) if len(gaps) else len(present), 0
    return int(counts.argmin()), int(counts.min())


def _to_images(value: object, split: str, where: str) -> Images:
    """Convert a pair (inputs, labels) or a map-style torch Dataset to arrays, or raise RequestError."""
    if isinstance(value, IterableDataset):
        raise refusal(f"{split} must be a map-style Dataset, but got the iterable {_kind(value)}", where)
    if isinstance(value, TorchDataset):
        return _from_dataset(value, split, where)
    if isinstance(value, tuple | list) and len(value) == 2:
        inputs, labels = (_array(part, split, where) for part in value)
        images = _images_of(inputs, split, where)
        # A copy: torch takes no read-only memory nor negative strides, and users may write to their arrays.
        return np.array(images, order="C"), _labels(labels, len(images), split, where)
    raise refusal(f"{split} must be a pair (inputs, labels) or a torch Dataset, but got {_kind(value)}", where)


def _array(value: object, split: str, where: str) -> NDArray[Any]:
    if isinstance(value, torch.Tensor):
        try:
            return value.detach().cpu().numpy()
        except (TypeError, RuntimeError) as error:
            raise refusal(f"{split} must be of a dtype that numpy has, but got {value.dtype}", where) from error
    if isinstance(value, np.ndarray) and value.ndim > 0:
        return value
    rule = f"inputs and labels of {split} must be numpy arrays or torch tensors"
    raise refusal(f"{rule}, but got {_kind(value)}", where)


def _images_of(inputs: NDArray[Any], split: str, where: str) -> NDArray[np.uint8]:
    if inputs.dtype != np.uint8:
        raise refusal(f"inputs of {split} must be uint8, but got {inputs.dtype}", where)
    if inputs.ndim not in (3, 4):
        rule = f"inputs of {split} must be (N, C, H, W) or (N, H, W)"
        raise refusal(f"{rule}, but got {inputs.ndim} dimensions: {inputs.shape}", where)
    if inputs.size == 0:
        raise refusal(f"{split} must not be empty, but got inputs of shape {inputs.shape}", where)
    return inputs if inputs.ndim == 4 else inputs[:, None]


def _labels(labels: NDArray[Any], samples: int, split: str, where: str) -> NDArray[np.int64]:
    if labels.dtype.kind not in "iu":
        raise refusal(f"labels of {split} must be integers, but got {labels.dtype}", where)
    if labels.shape != (samples,):
        rule = f"labels of {split} must have the shape ({samples},), one for each input"
        raise refusal(f"{rule}, but got {labels.shape}", where)
    return labels.astype(np.int64)


def _from_dataset(dataset: TorchDataset[Any], split: str, where: str) -> Images:
    samples = _length(dataset, split, where)
    first = _item(dataset, 0, split, where)[0]
    inputs = np.empty((samples, *first.shape), dtype=np.uint8)
    labels = np.empty(samples, dtype=np.int64)
    for index in range(samples):
        sample, labels[index] = _item(dataset, index, split, where)
        if sample.shape != first.shape:
            rule = f"samples of {split} must have one shape, {first.shape} as the first"
            raise refusal(f"{rule}, but got {sample.shape} at index {index}", where)
        inputs[index] = sample
    return _images_of(inputs, split, where), labels


def _length(dataset: TorchDataset[Any], split: str, where: str) -> int:
    try:
        samples = len(dataset)  # type: ignore[arg-type]  # torch's Dataset leaves __len__ to its subclasses
    except Exception as error:
        raise refusal(f"{split} must have a length, but len() raised {describe(error)}", where) from error
    if samples == 0:
        raise refusal(f"{split} must not be empty, but got a Dataset of length 0", where)
    return samples


def _item(dataset: TorchDataset[Any], index: int, split: str, where: str) -> tuple[NDArray[np.uint8], int]:
    place = f"{split}[{index}]"
    try:
        item = dataset[index]
    except Exception as error:
        raise refusal(f"{place} must be a sample, but reading it raised {describe(error)}", where) from error
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise refusal(f"{place} must be a pair (sample, label), but got {_kind(item)}", where)
    label = np.asarray(item[1].cpu() if isinstance(item[1], torch.Tensor) else item[1])
    if label.dtype.kind not in "iu" or label.ndim != 0:
        raise refusal(f"labels must be integers, but got {_kind(item[1])} at {place}", where)
    return _sample(item[0], place, where), int(label)


def _sample(value: Any, place: str, where: str) -> NDArray[np.uint8]:
    if type(value).__module__.startswith("PIL."):
        return _picture(value, place, where)
    array = _array(value, place, where)
    if array.dtype in (np.float32, np.float64):
        array = _bytes(array, place, where)
    if array.dtype != np.uint8:
        raise refusal(f"{place} must be uint8 or float in steps of 1/255, but got {array.dtype}", where)
    if array.ndim not in (2, 3):
        raise refusal(f"{place} must be (C, H, W) or (H, W), but got shape {array.shape}", where)
    return array


def _picture(picture: Any, place: str, where: str) -> NDArray[np.uint8]:
    if picture.mode not in ("L", "RGB"):
        raise refusal(f"{place} must be a picture of mode L or RGB, but got {picture.mode}", where)
    array = np.asarray(picture, dtype=np.uint8)
    return array if array.ndim == 2 else array.transpose(2, 0, 1)


def _bytes(values: NDArray[Any], place: str, where: str) -> NDArray[np.uint8]:
    """Undo a division of bytes by 255."""
    with np.errstate(all="ignore"):  # infinities and nan fail the test below
        scaled = values * 255
        stored = np.round(scaled)
        near = np.abs(scaled - stored) < EXACT
    if not np.all(near & (stored >= 0) & (stored <= 255)):
        rule = f"float values of {place} must be multiples of 1/255 in [0, 1] (raw images, not normalised)"
        raise refusal(f"{rule}, but got values from {values.min():g} to {values.max():g}", where)
    return stored.astype(np.uint8)


def _kind(value: object) -> str:
    size = f" of length {len(value)}" if isinstance(value, tuple | list) else ""
    return f"{type(value).__name__}{size}"
