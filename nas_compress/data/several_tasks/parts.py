"""From inputs and named labels to the splits of several tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nas_compress.data.assemble import Parts, Samples
from nas_compress.data.scarce_labels import lacking_labels, without_labels
from nas_compress.data.targets import Kind, read_targets
from nas_compress.data.text.tables import TextFiles
from nas_compress.errors import refusal, require_known
from nas_compress.tasks.batch import Arrays
from nas_compress.tasks.several import SeveralTasks
from nas_compress.tasks.task import Task


@dataclass(frozen=True, kw_only=True)
class TaskChoice:
    """One task of a study.

    labels: their name in the data. kind: None for the one that follows from the labels. metric: its primary one.
    texts: files of its own, None for those of the data.
    """

    name: str
    labels: str
    metric: str
    kind: Kind | None = None
    texts: TextFiles | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Labels:
    """Labels of some samples of a split. rows: sorted numbers of the samples (M,). values: (M, ...)."""

    rows: NDArray[np.int64]
    values: NDArray[Any]

    @classmethod
    def of_all(cls, values: NDArray[Any]) -> Labels:
        """Labels of every sample."""
        return cls(rows=np.arange(len(values)), values=values)


NamedLabels: TypeAlias = Mapping[str, Mapping[str, Labels]]
"""Labels by their name, then by split."""


def several_parts(parts: Parts, labels: NamedLabels, choices: Sequence[TaskChoice], *, where: str) -> Parts:
    """Return the parts with a target of each task in place of their own.

    where: the study file's key of the data, for errors. RequestError for unknown labels, for labels that cannot be
    used, and for a metric of another kind of task.
    """
    label = where.rpartition("data.")[0] if where else ""
    tasks: list[tuple[str, Task]] = []
    splits = {"train": parts.train, "validation": parts.validation, "test": parts.test}
    targets: dict[str, dict[str, NDArray[Any]]] = {split: {} for split in splits}
    for choice in choices:
        place = f"{label}tasks.{choice.name}"
        require_known("labels of a task", choice.labels, labels, f"{place}.labels")
        own = labels[choice.labels]
        given = {split: each.values for split, each in own.items() if len(each.values)}
        found = read_targets(choice.kind, parts.train[0], given, where=f"{place}.labels")
        task = replace(found.task, inputs=parts.task.signature.inputs)  # type: ignore[type-var]
        task = _measured_by(task, choice.metric, f"{place}.metric")
        counts = {split: len(next(iter(samples[0].values()))) for split, samples in splits.items()}
        if any(len(own[split].rows) < counts[split] for split in own):
            task = lacking_labels(task, place)
        for split, count in counts.items():
            targets[split] |= _all_rows(task, found.splits.get(split), own.get(split), count, choice.name)
        tasks.append((choice.name, task))
    return replace(
        parts,
        task=SeveralTasks(parts=tuple(tasks)),
        train=_with(parts.train, targets["train"]),
        validation=_with(parts.validation, targets["validation"]),
        test=_with(parts.test, targets["test"]),
    )


def _measured_by(task: Task, metric: str, where: str) -> Task:
    chosen = task.measuring([metric])
    if chosen.metrics[0] != metric:
        known = ", ".join(task.metrics)
        raise refusal(f"a task must have a metric of its kind, such as {known}, but got {metric!r}", where)
    return chosen


def _all_rows(
    task: Task, known: Arrays | None, labels: Labels | None, count: int, name: str
) -> dict[str, NDArray[Any]]:
    """Return the targets of all samples of a split, without a label where there is none."""
    made = {}
    for spec in task.targets:
        sizes = [size for size in spec.sample_shape if isinstance(size, int)]
        empty: NDArray[Any] = np.empty((0, *sizes), dtype=spec.dtype)
        values = without_labels(empty, count)
        if known is not None and labels is not None:
            values[labels.rows] = known[spec.name]
        made[f"{spec.name}_{name}"] = values
    return made


def _with(samples: Samples, targets: Arrays) -> Samples:
    return samples[0], targets
