"""Several tasks of one network: an output of its own for each, and their metrics apart and together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas_compress.errors import RequestError
from nas_compress.tasks.batch import Arrays, Batch, to_tensors
from nas_compress.tasks.export_tolerance import Agreement, Rounding
from nas_compress.tasks.multi_label import MultiLabel
from nas_compress.tasks.regression import Regression
from nas_compress.tasks.task import Task, chosen_metrics
from nas_compress.values.metrics.multi_task import MEAN_SCORE, of_task
from nas_compress.values.normalisation import Normalisation
from nas_compress.values.signature import Signature, TensorSpec

SIZE_POWER = 0.75
"""A task of n samples is drawn with a chance proportional to n to this power (Clark et al. 2019)."""


@dataclass(frozen=True, kw_only=True)
class SeveralTasks(Task):
    """Tasks of the same inputs by name; the output `logits` of task `parity` is called `logits_parity`.

    A training sample may have labels of some tasks only. Losses on logits see a row for each task: the logits of its
    classes, those of a set of labels in pairs, or of a regression the numbers 0 and y, the standardised answer.

    parts: name and task, in the order of the outputs. first: metrics by importance.
    """

    parts: tuple[tuple[str, Task], ...]
    first: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.parts:
            raise RequestError("several tasks must have at least one, but got none")
        for name, task in self.parts:
            if task.signature.inputs != self.parts[0][1].signature.inputs:
                other = self.parts[0][0]
                raise RequestError(
                    f"tasks must have the same inputs and one vocabulary, but those of {name} differ from {other}; "
                    "use a study for each"
                )
            if any(len(spec.shape) != 2 for spec in task.signature.outputs) or len(task.signature.outputs) != 1:
                raise RequestError(f"each of several tasks must answer with a vector, but {name} is a {task.name}")
            if isinstance(task, Regression) and len(task.mean) != 1:
                raise RequestError(f"a regression among several tasks must have one number, but {name} has more")

    @property
    def name(self) -> str:
        """The name in the table of tasks."""
        return "several_tasks"

    @cached_property
    def signature(self) -> Signature:
        """The common inputs, and the output of each task."""
        outputs = [replace(spec, name=f"{spec.name}_{name}") for name, t in self.parts for spec in t.signature.outputs]
        return Signature(inputs=self.parts[0][1].signature.inputs, outputs=tuple(outputs))

    @property
    def targets(self) -> tuple[TensorSpec, ...]:
        """The targets of each task, with its name behind theirs."""
        return tuple(replace(spec, name=f"{spec.name}_{name}") for name, task in self.parts for spec in task.targets)

    @property
    def classes(self) -> None:
        """None: a sample has a class of each task."""

    @property
    def row_classes(self) -> int:
        """The largest number of entries of a task's row."""
        return max(row_size(task) for _, task in self.parts)

    @property
    def class_weights(self) -> tuple[float, ...]:
        """The weights of all tasks, one task behind the other."""
        return tuple(weight for _, task in self.parts for weight in task.class_weights)

    @property
    def output_normalisation(self) -> Mapping[str, Normalisation]:
        """Mean and deviation of the outputs of regressions."""
        return {
            f"{output}_{name}": values
            for name, task in self.parts
            for output, values in task.output_normalisation.items()
        }

    @property
    def metrics(self) -> tuple[str, ...]:
        """The chosen metrics, the mean, and those of each task."""
        every = (MEAN_SCORE, *(of_task(metric, name) for name, task in self.parts for metric in task.metrics))
        return chosen_metrics(every, self.first, every)

    def measuring(self, names: Sequence[str]) -> SeveralTasks:
        """Return the same tasks with these metrics first; the primary metric of each task stays."""

        def of(name: str, task: Task) -> Task:
            wanted = [metric.removesuffix(of_task("", name)) for metric in names if metric.endswith(of_task("", name))]
            return task.measuring([task.metrics[0], *wanted])

        return replace(with_each(self, of), first=tuple(names))

    def outputs_of(self, name: str, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the outputs of one task under its own names."""
        return {spec.name: outputs[f"{spec.name}_{name}"] for spec in self.task(name).signature.outputs}

    def targets_of(self, name: str, targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the targets of one task under its own names."""
        return {spec.name: targets[f"{spec.name}_{name}"] for spec in self.task(name).targets}

    def task(self, name: str) -> Task:
        """Return one task; KeyError for an unknown name."""
        return dict(self.parts)[name]

    def base_loss(self, outputs: Batch, targets: Batch) -> Tensor:
        """Return the mean over all labels of the batch; 0 without a label."""

        def of(name: str, task: Task) -> tuple[Tensor, Tensor]:
            own = self.targets_of(name, targets)
            return task.base_loss(self.outputs_of(name, outputs), own), task.labelled(own).sum()

        return mean_over_labels([of(name, task) for name, task in self.parts])

    def compact(self, outputs: Arrays) -> Arrays:
        """Return the compact form of each task's outputs."""
        found: dict[str, NDArray[Any]] = {}
        for name, task in self.parts:
            kept = task.compact({spec.name: outputs[f"{spec.name}_{name}"] for spec in task.signature.outputs})
            found |= {f"{key}_{name}": values for key, values in kept.items()}
        return found

    def measure(self, outputs: Arrays, targets: Arrays) -> dict[str, float]:
        """Return every metric; those of a task are of the samples with its label."""
        figures: dict[str, float] = {}
        for name, task in self.parts:
            own = {spec.name: targets[f"{spec.name}_{name}"] for spec in task.targets}
            known = task.labelled(to_tensors(own)).numpy()
            answers = {spec.name: outputs[f"{spec.name}_{name}"][known] for spec in task.signature.outputs}
            if not known.any():  # a split without samples of this task
                figures |= {of_task(metric, name): float("nan") for metric in task.metrics}
                continue
            found = task.measure(answers, {key: values[known] for key, values in own.items()})
            figures |= {of_task(metric, name): value for metric, value in found.items()}
        figures[MEAN_SCORE] = float(np.mean([figures[metric] for metric in self._scores]))
        return {name: figures[name] for name in self.metrics}

    @property
    def _scores(self) -> list[str]:
        """The primary metric of each task, without regressions if there are other tasks."""
        kept = [pair for pair in self.parts if not isinstance(pair[1], Regression)] or list(self.parts)
        return [of_task(task.metrics[0], name) for name, task in kept]

    def chance(self, metric: str) -> float | None:
        """Return the level of a task's metric, or the mean of such levels."""
        if metric == MEAN_SCORE:
            levels = [self.chance(each) for each in self._scores]
            known = [level for level in levels if level is not None]
            return float(np.mean(known)) if len(known) == len(levels) else None
        own, _, name = metric.rpartition(of_task("", ""))
        return dict(self.parts)[name].chance(own) if name in dict(self.parts) else None

    def agreement(self, found: Arrays, expected: Arrays, *, rounding: Rounding, name: str) -> Agreement:
        """Compare the outputs of each task; the lowest agreement counts."""
        every = []
        for part, task in self.parts:
            both = (
                {spec.name: values[f"{spec.name}_{part}"] for spec in task.signature.outputs}
                for values in (found, expected)
            )
            every.append(task.agreement(*both, rounding=rounding, name=name))
        return Agreement(
            agreement=min(each.agreement for each in every),
            max_difference=max(each.max_difference for each in every),
        )

    def row_of(self, name: str, outputs: Batch) -> Tensor:
        """Return the row of one task (B, row_classes) from its own outputs; further places repeat the first one."""
        task = self.task(name)
        if isinstance(task, Regression):
            values = task.standardised(next(iter(outputs.values())))
            row = torch.cat([torch.zeros_like(values), values], dim=1)
        else:
            row = task.logits(outputs).float()
            row = row.reshape(len(row), -1)
        missing = self.row_classes - row.shape[1]
        return torch.cat([row, row[:, :1].expand(-1, missing)], dim=1) if missing else row

    def logits(self, outputs: Batch) -> Tensor:
        """Return a row for each task, (B, tasks, row_classes)."""
        return torch.stack([self.row_of(name, self.outputs_of(name, outputs)) for name, _ in self.parts], dim=1)

    @property
    def lacks_labels(self) -> bool:
        """True if samples of a task may have no label."""
        return any(task.lacks_labels for _, task in self.parts)

    def labelled(self, targets: Batch) -> Tensor:
        """Return True for each sample with the label of a task."""
        return torch.stack(list(self.labelled_by_task(targets).values())).any(dim=0)

    def labelled_by_task(self, targets: Batch) -> dict[str, Tensor]:
        """Return True for each sample with the label of the task, by task."""
        return {name: task.labelled(self.targets_of(name, targets)) for name, task in self.parts}

    def draws(self, targets: Batch) -> Tensor | None:
        """Return the chance of each sample (N,) by the size of its tasks; None if all tasks have the same samples."""
        known = torch.stack(list(self.labelled_by_task(targets).values())).cpu()
        if bool((known == known[0]).all()):
            return None
        rows = torch.cat([known, ~known.any(dim=0, keepdim=True)]).double()
        sizes = rows.sum(dim=1, keepdim=True).clamp(min=1)
        return (rows * sizes ** (SIZE_POWER - 1)).sum(dim=0)


def row_size(task: Task) -> int:
    """Return the number of entries of a task's row: a pair for each of a set of labels, and for a regression."""
    return 2 * task.label_count if isinstance(task, MultiLabel) else task.row_classes or 2


def mean_over_labels(parts: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Return the mean of losses, each weighted by its number of labels; 0 without a label."""
    total = torch.stack([loss * count for loss, count in parts]).sum()
    labels = torch.stack([count for _, count in parts]).sum()
    return total / labels.clamp(min=1)


def with_each(task: SeveralTasks, change: Callable[[str, Task], Task]) -> SeveralTasks:
    """Return the tasks, each changed by a function of its name and itself."""
    return replace(task, parts=tuple((name, change(name, each)) for name, each in task.parts))
