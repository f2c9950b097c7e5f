"""Labels by name in the splits that a function returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_compress.data.array_conversion import as_targets
from nas_compress.data.stratified_split import validation_and_train
from nas_compress.data.user_task_data import SPLITS
from nas_compress.errors import refusal

Columns = dict[str, dict[str, NDArray[Any]]]
"""Labels by their name, then by split."""

FEW = 2
"""Labels are classes if at most one in this many is different from all others."""


def labelled_pairs(returned: Mapping[object, object], where: str) -> dict[str, tuple[Any, dict[str, NDArray[Any]]]]:
    """Return the samples of each split as they are, and their labels by name.

    RequestError unless each split is a pair of samples and a mapping. where: the study file's key, for errors.
    """
    pairs = {}
    for split in SPLITS:
        if split not in returned:
            continue
        value = returned[split]
        if not isinstance(value, tuple | list) or len(value) != 2 or not isinstance(value[1], Mapping) or not value[1]:
            rule = f"{split} must be a pair (inputs, {{name: labels}}) for several tasks"
            raise refusal(f"{rule}, but got {type(value).__name__}", where)
        pairs[split] = (value[0], {str(name): as_targets(each, split, where) for name, each in value[1].items()})
    return pairs


def require_one_each(split: str, count: int, labels: Mapping[str, NDArray[Any]], where: str) -> None:
    """Raise RequestError unless there is one label of each name for each of `count` samples."""
    for name, values in labels.items():
        if len(values) != count:
            raise refusal(f"{split} must have one {name} for each of {count} inputs, but got {len(values)}", where)


def columns_of(labels: Mapping[str, Mapping[str, NDArray[Any]]], where: str) -> Columns:
    """Return the labels by name. labels: by split. RequestError unless the names are those of train everywhere."""
    names = list(labels["train"])
    for split, targets in labels.items():
        if list(targets) != names:
            rule = f"labels must be {', '.join(names)} in every split"
            raise refusal(f"{rule}, but got {', '.join(targets)} in {split}", where)
    return {name: {split: targets[name] for split, targets in labels.items()} for name in names}


def draw_validation(labels: Sequence[NDArray[Any]], *, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw places for validation and for training, with the share of each class of the first task that has classes."""
    by_class = [_strata(values) for values in labels]
    return validation_and_train(next((each for each in by_class if each.any()), by_class[0]), seed=seed)


def _strata(values: NDArray[Any]) -> NDArray[np.int64]:
    """Return the number of each label's class; zeros for labels that are no classes, such as several numbers each."""
    if values.ndim != 1:
        return np.zeros(len(values), dtype=np.int64)
    names, members = np.unique(values, return_inverse=True)
    return members.astype(np.int64) if FEW * len(names) <= len(values) else np.zeros(len(values), dtype=np.int64)
