"""Training splits in which some samples have no label: `data.labels`, and samples that never had one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_compress.data.assemble import Parts, Samples, strata, with_fewer
from nas_compress.data.stratified_split import stratified_subset
from nas_compress.errors import refusal
from nas_compress.tasks.batch import Arrays, InputRows, to_arrays, to_tensors
from nas_compress.tasks.classification import NO_LABEL, Classification
from nas_compress.tasks.memory_map import MappedRows, Rows
from nas_compress.tasks.multi_label import MultiLabel
from nas_compress.tasks.regression import TARGETS, Regression
from nas_compress.tasks.segmentation import IGNORED, Segmentation
from nas_compress.tasks.several import SeveralTasks, with_each
from nas_compress.tasks.task import Task

LEAST_LABELS = 2
"""Least labels of each class: one may be a rare case, and folds need another."""


def scarce(parts: Parts, *, train_samples: int | None, labels: int | None, seed: int, where: str) -> Parts:
    """Return the parts with a subset of the training samples, of which some keep their labels.

    train_samples, labels: None for all. Samples of the data that never had a label are then added.
    """
    if train_samples is not None:
        parts = with_fewer(parts, train_samples, seed=seed, where=where)
        parts = replace(parts, task=_of_known_numbers(parts.task, parts.train[1], where))
    if labels is not None:
        parts = keep_labels(parts, labels, seed=seed, where=where)
    if parts.unlabelled is not None:
        parts = with_unlabelled(parts, parts.unlabelled, where=where)
    return parts


def keep_labels(parts: Parts, count: int, *, seed: int, where: str) -> Parts:
    """Return the parts with the labels of `count` training samples; the other samples stay without a label.

    The choice is stratified by class, of several tasks by that with the most classes, and drawn from `seed`.
    RequestError for more labels than samples, fewer than two of a class, or a task of the user.
    """
    labels = (
        _strata_of_tasks(parts.task, parts.train)
        if isinstance(parts.task, SeveralTasks)
        else strata(parts.task, parts.train)
    )
    classes, members = np.unique(labels, return_counts=True)
    key = where.rpartition("data.")[0] + "data.labels" if where else ""
    if parts.task.classes is not None and members.min() < LEAST_LABELS:
        rare, found = int(classes[members.argmin()]), int(members.min())
        raise refusal(f"train must have {LEAST_LABELS} samples of each class, but got {found} of class {rare}", key)
    least = LEAST_LABELS * len(classes)
    if not least <= count <= len(labels):
        words = f"{least} ({LEAST_LABELS} of each class)" if parts.task.classes else f"{least}"
        raise refusal(f"{words} <= labels <= {len(labels)} (training samples) must hold, but got labels={count}", key)
    kept = stratified_subset(labels, count=count, seed=seed, least=LEAST_LABELS)
    inputs, targets = parts.train
    hidden = {name: without_labels(values, len(values)) for name, values in targets.items()}
    for name, values in targets.items():
        hidden[name][kept] = values[kept]
    if isinstance(parts.task, SeveralTasks):
        _require_each_class(parts.task, hidden, count, key)
    task = _of_known_numbers(lacking_labels(parts.task, key), hidden, key)
    return replace(parts, task=task, train=(inputs, hidden))


def _strata_of_tasks(task: SeveralTasks, samples: Samples) -> NDArray[np.int64]:
    """Return the classes of the task that has the most, -1 for samples of other tasks; all 0 without classes."""
    arrays = to_tensors(samples[1])
    classified = [(each.classes, name) for name, each in task.parts if each.classes is not None]
    if not classified:
        return np.zeros(len(next(iter(arrays.values()))), dtype=np.int64)
    name = max(classified, key=lambda pair: pair[0])[1]
    found: NDArray[np.int64] = task.task(name).labels(task.targets_of(name, arrays)).numpy()
    return found


def _require_each_class(task: SeveralTasks, targets: Arrays, count: int, where: str) -> None:
    """Raise RequestError unless LEAST_LABELS of each class of each task are kept."""
    arrays = to_tensors(targets)
    for name, each in task.parts:
        if each.classes is None:
            continue
        labels = each.labels(task.targets_of(name, arrays)).numpy()
        members = np.bincount(labels[labels >= 0], minlength=each.classes)
        if members.min() < LEAST_LABELS:
            rule = f"labels must keep {LEAST_LABELS} of each class of task {name}"
            got = f"labels={count} with {members.min()} of class {members.argmin()}"
            raise refusal(f"{rule}, but got {got}; keep more", where)


def _of_known_numbers(task: Task, targets: Arrays, where: str) -> Task:
    """Return the task with mean and deviation of the numbers that training samples have, not of others."""
    if isinstance(task, SeveralTasks):
        arrays = to_tensors(targets)
        return with_each(
            task, lambda name, each: _of_known_numbers(each, to_arrays(task.targets_of(name, arrays)), where)
        )
    if not isinstance(task, Regression):
        return task
    numbers = targets[TARGETS].astype(np.float64)
    known = numbers[~np.isnan(numbers).any(axis=1)]
    if not len(known) or not known.std(axis=0).min() > 0:
        got = f"{len(known)} labels" + " of one number" * bool(len(known))
        raise refusal(f"labels that are kept must have two different numbers, but got {got}; keep more samples", where)
    return replace(task, mean=tuple(known.mean(axis=0).tolist()), std=tuple(known.std(axis=0).tolist()))


def with_unlabelled(parts: Parts, unlabelled: InputRows, *, where: str) -> Parts:
    """Return the parts with further training samples that have no label, behind the others.

    unlabelled: inputs by name, of the types and sample shapes of train; token ids may have another length.
    """
    inputs, targets = parts.train
    found = ", ".join(unlabelled) or "none"
    if list(unlabelled) != list(inputs):
        raise refusal(f"unlabelled must have the inputs of train ({', '.join(inputs)}), but got {found}", where)
    tokens = {spec.name for spec in parts.task.signature.inputs if spec.values is not None}
    added = len(next(iter(unlabelled.values())))
    if not added:
        raise refusal("unlabelled must not be empty, but got no samples; leave it out", where)
    joined = {name: _joined(name, values, unlabelled[name], name in tokens, where) for name, values in inputs.items()}
    more = {name: np.concatenate([values, without_labels(values, added)]) for name, values in targets.items()}
    return replace(parts, task=lacking_labels(parts.task, where), train=(joined, more))


def lacking_labels(task: Task, where: str) -> Task:
    """Return the task for training samples of which some have no label; RequestError for a task of the user."""
    if isinstance(task, Segmentation):
        return task  # pixels may be without a label in any case
    if isinstance(task, SeveralTasks):
        return with_each(task, lambda name, each: lacking_labels(each, where))
    if not isinstance(task, Classification | MultiLabel | Regression):
        raise refusal(f"samples without a label need a task of the table, but the task is {task.name}", where)
    return replace(task, lacks_labels=True)


def without_labels(values: NDArray[Any], count: int) -> NDArray[Any]:
    """Return `count` targets of the same kind that say that there is no label."""
    marks: Mapping[str, float] = {"i": NO_LABEL, "u": IGNORED, "f": np.nan}
    return np.full((count, *values.shape[1:]), marks[values.dtype.kind], dtype=values.dtype)


def _joined(name: str, first: Rows, second: Rows, is_tokens: bool, where: str) -> Rows:
    if isinstance(first, MappedRows) or isinstance(second, MappedRows):
        raise refusal("unlabelled samples need arrays in memory, but got a store of samples; return arrays", where)
    sizes = (first.shape[2:], second.shape[2:]) if is_tokens else (first.shape[1:], second.shape[1:])
    if first.dtype != second.dtype or sizes[0] != sizes[1]:
        rule = f"unlabelled {name} must be {first.dtype} {first.shape[1:]} as in train"
        raise refusal(f"{rule}, but got {second.dtype} {second.shape[1:]}", where)
    if is_tokens:
        longest = max(first.shape[1], second.shape[1])
        first, second = (np.pad(ids, ((0, 0), (0, longest - ids.shape[1]))) for ids in (first, second))
    return np.concatenate([first, second])
