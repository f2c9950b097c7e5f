"""Targets of a user's data: classes by number or word, sets of labels, numbers; and the task that they define."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nas_compress.data.stratified_split import VALIDATION_SHARE
from nas_compress.errors import refusal
from nas_compress.tasks.batch import Arrays, InputRows
from nas_compress.tasks.classification import IMAGES, LABEL, Classification
from nas_compress.tasks.multi_label import LABELS, MultiLabel
from nas_compress.tasks.regression import TARGETS, Regression
from nas_compress.tasks.segmentation import IGNORED, MASK, Segmentation
from nas_compress.tasks.task import Task
from nas_compress.values.file_constants import INPUT_NAME
from nas_compress.values.signature import BATCH, TensorSpec

Kind = Literal["classification", "multi_label", "regression", "segmentation"]
"""Tasks that follow from targets alone."""

LEAST_PER_CLASS = 1
"""Least samples of a class in train and validation."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Targets:
    """The task of a data set, and the targets of each split as it takes them."""

    task: Task
    splits: Mapping[str, Arrays]


def kind_of_targets(targets: NDArray[Any]) -> Kind:
    """Return the task of targets by type and shape.

    Whole numbers and words (N,) are classes, 0 and 1 (N, L) are sets of labels, whole numbers (N, H, W) are masks,
    floats are numbers to predict.
    """
    if targets.dtype.kind in "iub" and targets.ndim in (3, 4):
        return "segmentation"
    if targets.dtype.kind == "f":
        return "regression"
    return "multi_label" if targets.ndim == 2 and targets.shape[1] > 1 else "classification"


def read_targets(kind: Kind | None, inputs: InputRows, targets: Mapping[str, NDArray[Any]], *, where: str) -> Targets:
    """Check the targets of all splits and return them with their task.

    kind: the study's choice, None for the one that follows from the training targets. inputs: of the training split.
    RequestError of one line for the first mistake.
    """
    specs = tuple(
        TensorSpec(name=name, dtype=values.dtype.name, shape=(BATCH, *values.shape[1:]))
        for name, values in inputs.items()
    )
    chosen = kind or kind_of_targets(targets["train"])
    if kind is None:
        _require_clear(targets["train"], where)
    if chosen == "classification":
        return _classes(specs, targets, where)
    if chosen == "segmentation":
        return _masks(specs, targets, where)
    return _label_sets(specs, targets, where) if chosen == "multi_label" else _numbers(specs, targets, where)


def require_drawn(targets: Mapping[str, Arrays], where: str) -> None:
    """Refuse a drawn validation split that is empty or lacks samples of a class. targets: of every split."""
    shown = f"validation ({VALIDATION_SHARE:.0%} of train)"
    for split, name in (("train", "train"), ("validation", shown)):
        if not len(next(iter(targets[split].values()))):
            raise refusal(f"{name} must not be empty, but train has too few samples; return a validation split", where)
        if LABEL in targets[split]:
            classes = int(max(each[LABEL].max() for each in targets.values())) + 1
            counts = np.bincount(targets[split][LABEL], minlength=classes)
            if counts.min() < LEAST_PER_CLASS:
                rule = f"{name} must have samples of each class 0 to {classes - 1}"
                hint = "return a validation split, or two samples of each class"
                raise refusal(f"{rule}, but got {counts.min()} of class {counts.argmin()}; {hint}", where)


def _require_clear(targets: NDArray[Any], where: str) -> None:
    """Refuse floats that may be classes: few different whole numbers."""
    if targets.dtype.kind == "f" and np.isfinite(targets).all() and (targets == np.round(targets)).all():
        few = len(np.unique(targets)) <= max(2, len(targets) // 10)
        if few:
            raise refusal(
                f"labels must be integers, but got whole numbers as {targets.dtype}; use integers, or "
                'task = "regression" to predict numbers',
                where,
            )


def _classes(specs: tuple[TensorSpec, ...], targets: Mapping[str, NDArray[Any]], where: str) -> Targets:
    names: tuple[str, ...] = ()
    if targets["train"].dtype.kind == "U":
        names = tuple(str(name) for name in np.unique(targets["train"]))
        targets = {split: _by_word(words, names, split, where) for split, words in targets.items()}
    targets = {split: _whole(labels, split, where) for split, labels in targets.items()}
    count = _class_count(targets["train"], where)
    for split, labels in targets.items():
        _require_labels(labels, split, count, where)
    images = len(specs) == 1 and (specs[0].name, specs[0].dtype, len(specs[0].shape)) == (INPUT_NAME, "uint8", 4)
    task = Classification(inputs=specs, classes=count, name=IMAGES if images else "classification", class_names=names)
    return Targets(task=task, splits={split: {LABEL: labels} for split, labels in targets.items()})


def _masks(specs: tuple[TensorSpec, ...], targets: Mapping[str, NDArray[Any]], where: str) -> Targets:
    if len(specs) != 1 or len(specs[0].shape) != 4:
        found = ", ".join(f"{spec.name} {spec.shape}" for spec in specs)
        raise refusal(f"masks need one input of pictures (N, C, H, W), but got {found}", where)
    sizes, splits = specs[0].shape[2:], {}
    for split, masks in targets.items():
        plain = masks[:, 0] if masks.ndim == 4 and masks.shape[1] == 1 else masks
        if plain.dtype.kind not in "iub" or plain.shape[1:] != sizes:
            shape = ", ".join(map(str, sizes))
            hint = "; use masks.argmax(axis=1)" if plain.ndim == 4 else ""
            rule = f"masks of {split} must be whole numbers (N, {shape}), the class of each pixel"
            raise refusal(f"{rule}, but got {masks.dtype} {masks.shape}{hint}", where)
        splits[split] = plain
    known = np.unique(splits["train"])
    known = known[known != IGNORED]
    classes = int(known.max(initial=0)) + 1
    for split, masks in splits.items():
        for value in np.unique(masks).tolist():
            if not (0 <= value < classes and value < IGNORED) and value != IGNORED:
                rule = f"0 <= class < {min(classes, IGNORED)} (classes of train), or {IGNORED} for no label"
                raise refusal(f"{rule}, must hold in the masks of {split}, but got {value}", where)
    if len(known) < max(2, classes):
        gap = next((each for each in range(classes) if each not in known), 1)
        rule = f"the masks of train must have pixels of each class 0 to {max(1, classes - 1)}"
        hint = (
            "; use masks > 0 if it means class 1" if len(known) == classes == 1 and IGNORED in splits["train"] else ""
        )
        raise refusal(f"{rule}, but got none of class {gap}; {IGNORED} marks pixels without a label{hint}", where)
    task = Segmentation(inputs=specs, class_count=classes)
    return Targets(task=task, splits={split: {MASK: masks.astype(np.uint8)} for split, masks in splits.items()})


def _by_word(words: NDArray[Any], names: tuple[str, ...], split: str, where: str) -> NDArray[np.int64]:
    if words.dtype.kind != "U" or words.ndim != 1:
        raise refusal(f"labels of {split} must be words as in train, but got {words.dtype} {words.shape}", where)
    unknown = sorted(set(map(str, words)) - set(names))
    if unknown:
        raise refusal(f"labels of {split} must be among those of train, but got {unknown[0]!r}", where)
    return np.searchsorted(np.array(names), words).astype(np.int64)


def _whole(labels: NDArray[Any], split: str, where: str) -> NDArray[np.int64]:
    if labels.dtype.kind not in "iub":
        raise refusal(f"labels of {split} must be integers, but got {labels.dtype}", where)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise refusal(
            f"labels of {split} must have the shape (N,), one for each input, but got {labels.shape}; "
            'several labels per sample need task = "multi_label"',
            where,
        )
    return labels.astype(np.int64)


def _class_count(labels: NDArray[np.int64], where: str) -> int:
    """Return the largest training label + 1, at least 2; no label may be negative."""
    if labels.min() < 0:
        raise refusal(f"labels >= 0 must hold in train, but got {labels.min()}", where)
    classes = int(labels.max()) + 1
    if classes < 2:
        raise refusal(f"train must have at least 2 classes (largest label + 1), but got {classes}", where)
    return classes


def _require_labels(labels: NDArray[np.int64], split: str, classes: int, where: str) -> None:
    for label in (labels.min(), labels.max()):
        if not 0 <= label < classes:
            raise refusal(f"0 <= label < {classes} (classes of train) must hold in {split}, but got {label}", where)
    scarce, count = _scarcest(labels, classes)
    if count < LEAST_PER_CLASS and split != "test":
        rule = f"{split} must have samples of each class 0 to {classes - 1}"
        hint = (
            "; labels count from 0: subtract 1"
            if split == "train" and scarce == 0 == count and labels.min() == 1
            else ""
        )
        raise refusal(f"{rule}, but got {count} of class {scarce}{hint}", where)


def _scarcest(labels: NDArray[np.int64], classes: int) -> tuple[int, int]:
    """Return the class with fewest samples and their number, without memory for `classes`, which may be huge."""
    present, counts = np.unique(labels, return_counts=True)
    if len(present) < classes:
        gaps = np.flatnonzero(present != np.arange(len(present)))
        return int(gaps[0]) if len(gaps) else len(present), 0
    return int(counts.argmin()), int(counts.min())


def _label_sets(specs: tuple[TensorSpec, ...], targets: Mapping[str, NDArray[Any]], where: str) -> Targets:
    splits = {}
    for split, labels in targets.items():
        if labels.dtype.kind not in "iubf" or labels.ndim != 2 or not np.isin(labels, (0, 1)).all():
            raise refusal(f"labels of {split} must be 0 or 1 (N, labels), but got {labels.dtype} {labels.shape}", where)
        if labels.shape[1] != targets["train"].shape[1]:
            rule = f"labels must have the {targets['train'].shape[1]} columns of train"
            raise refusal(f"{rule}, but got {labels.shape[1]} in {split}", where)
        splits[split] = {LABELS: labels.astype(np.float32)}
    constant = [column for column, values in enumerate(targets["train"].T) if values.min() == values.max()]
    if constant:
        raise refusal(f"each label must be 0 and 1 in train, but label {constant[0]} has one value only", where)
    return Targets(task=MultiLabel(inputs=specs, label_count=targets["train"].shape[1]), splits=splits)


def _numbers(specs: tuple[TensorSpec, ...], targets: Mapping[str, NDArray[Any]], where: str) -> Targets:
    splits = {}
    for split, numbers in targets.items():
        if numbers.dtype.kind not in "iuf" or numbers.ndim not in (1, 2):
            rule = f"targets of {split} must be numbers (N,) or (N, K)"
            raise refusal(f"{rule}, but got {numbers.dtype} {numbers.shape}", where)
        if not np.isfinite(numbers).all():
            raise refusal(f"targets of {split} must be finite, but got nan or infinite values", where)
        splits[split] = {TARGETS: numbers.reshape(len(numbers), -1).astype(np.float32)}
    train = splits["train"][TARGETS].astype(np.float64)
    mean, std = train.mean(axis=0), train.std(axis=0)
    if not std.min() > 0:
        raise refusal(
            f"each target must vary in train, but target {int(std.argmin())} is {mean[std.argmin()]:g}", where
        )
    for split, numbers_ in splits.items():
        if numbers_[TARGETS].shape[1] != len(mean):
            found = numbers_[TARGETS].shape[1]
            raise refusal(f"targets must have the {len(mean)} columns of train, but got {found} in {split}", where)
    task = Regression(inputs=specs, mean=tuple(mean.tolist()), std=tuple(std.tolist()))
    return Targets(task=task, splits=splits)
