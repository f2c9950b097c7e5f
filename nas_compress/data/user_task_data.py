"""Data of a task of the user: splits of named tensors, with the task itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nas_compress.data.assemble import Parts, Samples, no_samples, strata, subset
from nas_compress.data.augment.protocol import Augmentation, NoAugmentation
from nas_compress.data.stratified_split import validation_and_train
from nas_compress.errors import refusal, require_known
from nas_compress.tasks.task import Task

SPLITS = ("train", "validation", "test")
"""Splits of the function's mapping; train is required, and test by `confirm` only."""


def require_splits(returned: Mapping[object, object], where: str, *, further: tuple[str, ...] = ()) -> None:
    """Raise RequestError for an unknown key, or if train is missing. further: keys besides the splits."""
    for key in returned:
        require_known("a split", str(key), (*SPLITS, *further), where)
    if "train" not in returned:
        got = ", ".join(map(str, returned)) or "none"
        raise refusal(f"the splits must include train, and test for `confirm`, but got {got}", where)


def task_parts(returned: Mapping[object, object], *, name: str, seed: int, where: str) -> Parts:
    """Convert a mapping with `task`, the splits and perhaps `augmentation`.

    A split is a pair of mappings: inputs and targets, each from names to arrays or tensors in the task's order.
    """
    require_splits(returned, where, further=("task", "augmentation"))
    task, augmentation = returned["task"], returned.get("augmentation", NoAugmentation())
    if not isinstance(task, Task):
        raise refusal(f"task must be a nas_compress.tasks.task.Task, but got {type(task).__name__}", where)
    if not isinstance(augmentation, Augmentation):
        rule = "augmentation must be a nas_compress.data.augment.protocol.Augmentation"
        raise refusal(f"{rule}, but got {type(augmentation).__name__}", where)
    splits = {split: _samples(returned[split], split, where) for split in SPLITS if split in returned}
    if "validation" not in splits:
        validation, train = validation_and_train(strata(task, splits["train"]), seed=seed)
        splits |= {"validation": subset(splits["train"], validation), "train": subset(splits["train"], train)}
    return Parts(
        name=name,
        task=task,
        train=splits["train"],
        validation=splits["validation"],
        test=splits.get("test") or no_samples(splits["train"]),
        numeric=tuple(name for name, values in splits["train"][0].items() if values.dtype in (np.uint8, np.float32)),
        augmentation=augmentation,
    )


def _samples(value: object, split: str, where: str) -> Samples:
    if not isinstance(value, tuple | list) or len(value) != 2 or not all(isinstance(part, Mapping) for part in value):
        raise refusal(f"{split} must be a pair of mappings (inputs, targets), but got {type(value).__name__}", where)
    inputs, targets = (
        {str(key): _array(tensor, f"{split}: {key}", where) for key, tensor in part.items()} for part in value
    )
    if not inputs or min(map(len, inputs.values())) == 0:
        raise refusal(f"{split} must not be empty, but got no samples", where)
    return inputs, targets


def _array(value: object, place: str, where: str) -> NDArray[Any]:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if not isinstance(value, np.ndarray) or value.ndim == 0:
        raise refusal(f"{place} must be a numpy array or torch tensor, but got {type(value).__name__}", where)
    # A copy: torch takes no read-only memory nor negative strides, and users may write to their arrays.
    return np.array(value, order="C")
