"""Rare classes: weights of classes in the loss, and weights of samples in the order of an epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import inf
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from nas_compress.errors import RequestError, require_known
from nas_compress.tasks.batch import Batch, split
from nas_compress.tasks.classification import Classification
from nas_compress.tasks.own_metrics import WithOwnMetrics
from nas_compress.tasks.segmentation import Segmentation
from nas_compress.tasks.several import SeveralTasks, with_each
from nas_compress.tasks.task import Task

ClassWeight: TypeAlias = Literal["balanced"] | Sequence[float] | Mapping[str, float]
"""One weight for each class, or weights by name or number with 1 for the others. `balanced`: see `balanced_weights`."""

AT_ONCE = 256
"""Samples whose labels are counted together."""


def class_counts(task: Task, targets: Batch) -> Tensor:
    """Return the number of labels of each class of a split, int64 (classes,), on the CPU."""
    classes = task.row_classes or 0
    counts = torch.zeros(classes, dtype=torch.int64)
    for part in split(targets, AT_ONCE):
        labels = task.labels(part).flatten().cpu()
        counts += torch.bincount(labels[labels >= 0], minlength=classes)
    return counts


def balanced_weights(counts: Tensor) -> tuple[float, ...]:
    """Return the mean count over the count of each class, as scikit-learn's `balanced`.

    >>> balanced_weights(torch.tensor([30, 10]))
    (0.6666666666666666, 2.0)
    """
    return tuple((counts.sum() / (len(counts) * counts.clamp(min=1).double())).tolist())


def with_class_weights(task: Task, given: ClassWeight, targets: Batch, *, where: str) -> Task:
    """Return the task with these weights in its loss. targets: of the training split.

    Of several tasks, each with classes is balanced by itself.
    RequestError if the task has no classes with weights, or if names or numbers do not fit. where: file and key.
    """
    if isinstance(task, SeveralTasks):
        return _of_each_task(task, given, targets, where)
    if not isinstance(task, Classification | Segmentation):
        raise RequestError(f"{where} needs a task with one class for each sample or pixel, but the task is {task.name}")
    classes = task.row_classes or 0
    if given == "balanced":
        return replace(task, class_weights=balanced_weights(class_counts(task, targets)))
    if isinstance(given, Mapping):
        names = list(getattr(task, "class_names", ())) or [str(number) for number in range(classes)]
        for name in given:
            require_known("a class", name, names, where)
        weights = tuple(float(given.get(name, 1.0)) for name in names)
    else:
        weights = tuple(float(weight) for weight in given)
    if len(weights) != classes or not all(0 <= weight < inf for weight in weights) or not any(weights):
        rule = f"{where} must be {classes} weights of at least 0, one for each class, not all 0"
        raise RequestError(f"{rule}, but got {list(weights)}")
    return replace(task, class_weights=weights)


def _of_each_task(task: SeveralTasks, given: ClassWeight, targets: Batch, where: str) -> SeveralTasks:
    """Return the tasks, each with balanced weights if it has one class for each sample."""
    if given != "balanced" or not any(isinstance(each, Classification) for _, each in task.parts):
        rule = f'{where} must be "balanced" for several tasks, and one of these must have a class for each sample'
        raise RequestError(f"{rule}, but got {given!r}")

    def of(name: str, each: Task) -> Task:
        own = task.targets_of(name, targets)
        return with_class_weights(each, given, own, where=where) if isinstance(each, Classification) else each

    return with_each(task, of)


def draws_of(task: Task, targets: Batch, sampler: str) -> Tensor | None:
    """Return the chance of each sample in an epoch, None for each sample once.

    sampler: `balanced` draws every class equally often. Several tasks of different samples are drawn by their sizes.
    """
    if sampler == "balanced":
        return sampling_weights(task, targets)
    inner = task.task if isinstance(task, WithOwnMetrics) else task
    return inner.draws(targets) if isinstance(inner, SeveralTasks) else None


def sampling_weights(task: Task, targets: Batch, *, where: str = "") -> Tensor:
    """Return the chance of each sample (N,), float64 on the CPU, by which every class is drawn equally often.

    RequestError unless each sample has one class.
    """
    labels = task.labels(targets).cpu() if task.classes is not None else None
    if labels is not None and task.lacks_labels:
        rule = f'{where or "sampler"} = "balanced" needs a label of every sample, but some have none'
        raise RequestError(f"{rule}; use class_weight, or leave out data.labels")
    if labels is None or labels.ndim != 1 or labels.is_floating_point():
        raise RequestError(
            f'{where or "sampler"} = "balanced" needs one class for each sample, but the task is {task.name}'
        )
    counts = torch.bincount(labels, minlength=task.classes or 0)
    return 1 / counts.double()[labels]
