"""What every split of the user's data must fulfil; each rule has its own line."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nas_compress.data.assemble import Samples
from nas_compress.errors import refusal

LEAST_PER_CLASS = 2
"""Fewer samples of a class in a split say nothing about it."""


def class_count(labels: np.ndarray, where: str) -> int:
    """Classes of the training labels, the largest label + 1; at least 2, and none negative."""
    if labels.min() < 0:
        raise refusal(f"labels >= 0 must hold in train, but got {labels.min()}", where)
    classes = int(labels.max()) + 1
    if classes < 2:
        raise refusal(f"train must have at least 2 classes (largest label + 1), but got {classes}", where)
    return classes


def require_complete(splits: Mapping[str, Samples], classes: int, where: str) -> None:
    """Refuse splits whose samples differ in shape, whose labels leave the classes or are too few of one."""
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
    """The class with fewest samples, and how many; allocates nothing of size `classes`, which may be wild."""
    present, counts = np.unique(labels, return_counts=True)
    if len(present) < classes:
        gaps = np.flatnonzero(present != np.arange(len(present)))
        return int(gaps[0]) if len(gaps) else len(present), 0
    return int(counts.argmin()), int(counts.min())
