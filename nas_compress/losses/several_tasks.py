"""Terms on logits for several tasks: each task by itself, and numbers by their squared error."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from nas_compress.losses.term_kinds import LogitTerm
from nas_compress.models.features import Observation
from nas_compress.tasks.batch import Batch
from nas_compress.tasks.multi_label import MultiLabel
from nas_compress.tasks.regression import Regression
from nas_compress.tasks.several import SeveralTasks, mean_over_labels, row_size
from nas_compress.tasks.task import Task

Part = Callable[[Observation, Batch, Observation, Tensor], Tensor]
"""(student, targets, teacher, the teacher's logits) to a scalar."""


def on_each_task(task: SeveralTasks, term: LogitTerm, single: Callable[[Task], Part], *, shared: bool) -> Part:
    """Return the mean of a term over the tasks, each weighted by its samples.

    single: binds the term to one task with classes. Regressions have the squared error to the labels for a term on
    labels alone, and to the teacher's numbers for a term on the teacher.
    A term on the teacher reads the samples with a label of the task, and those without any label. shared: see
    `training_loss`.
    """
    bound = [(name, each, _numbers(each, term, shared) if isinstance(each, Regression) else single(each))
             for name, each in task.parts]  # fmt: skip

    def part(student: Observation, targets: Batch, teacher: Observation, answers: Tensor) -> Tensor:
        known = task.labelled_by_task(targets)
        nowhere = ~torch.stack(list(known.values())).any(dim=0)
        losses = []
        for place, (name, each, loss) in enumerate(bound):
            own = known[name] | nowhere if term.needs_teacher else known[name]
            count = own.sum()
            if not int(count):
                continue
            guide = answers[own][..., place, : row_size(each)] if term.needs_teacher else answers
            if term.needs_teacher and isinstance(each, MultiLabel):
                guide = guide.reshape(*guide.shape[:-1], each.label_count, 2)
            value = loss(_of_task(task, name, student, own), _rows(task.targets_of(name, targets), own), teacher, guide)
            losses.append((value, count))
        if not losses:
            return next(iter(student.outputs.values())).sum() * 0.0
        return mean_over_labels(losses)

    return part


def _numbers(task: Regression, term: LogitTerm, shared: bool) -> Part:
    """Bind the squared error of a regression, in standard deviations of its labels."""

    def part(student: Observation, targets: Batch, teacher: Observation, answers: Tensor) -> Tensor:
        if not term.needs_teacher:
            return task.base_loss(student.for_labels if shared else student.outputs, targets)
        outputs = student.for_teacher if shared else student.outputs
        given = answers.float().detach()
        wanted = given[..., 1:2] - given[..., 0:1]
        if wanted.ndim == 3:  # the mean of an ensemble
            wanted = wanted.mean(dim=1)
        return F.mse_loss(task.standardised(next(iter(outputs.values()))), wanted)

    return part


def _of_task(task: SeveralTasks, name: str, seen: Observation, rows: Tensor) -> Observation:
    """Return the outputs of one task for some samples, under its own names."""

    def own(values: Batch) -> dict[str, Tensor]:
        return _rows(task.outputs_of(name, values), rows)

    return Observation(
        outputs=own(seen.outputs),
        label_head=None if seen.label_head is None else own(seen.label_head),
        teacher_head=None if seen.teacher_head is None else own(seen.teacher_head),
    )


def _rows(batch: Batch, rows: Tensor) -> dict[str, Tensor]:
    return {name: values[rows] for name, values in batch.items()}
