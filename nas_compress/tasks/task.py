"""The Protocol of a task."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from nas_compress.errors import RequestError
from nas_compress.tasks.batch import Arrays, Batch, count, device_of
from nas_compress.tasks.export_tolerance import Agreement, Rounding
from nas_compress.values.normalisation import Normalisation
from nas_compress.values.signature import Signature, TensorSpec


@runtime_checkable
class Task(Protocol):
    """Tensors, base loss and metrics of one kind of problem.

    A task without classes subclasses this Protocol and leaves out `classes`, `logits` and `labels`.
    """

    @property
    def name(self) -> str:
        """The name in the table of tasks."""

    @property
    def signature(self) -> Signature:
        """Inputs and outputs of every network of the task, and of every file."""

    @property
    def targets(self) -> tuple[TensorSpec, ...]:
        """Tensors of a training sample besides its inputs."""

    @property
    def classes(self) -> int | None:
        """Number of classes; None if the task has none."""
        return None

    @property
    def row_classes(self) -> int | None:
        """Size of the last dimension of `logits`; None if the task has no logits."""
        return self.classes

    @property
    def class_names(self) -> tuple[str, ...]:
        """Words of the classes in order; empty if classes are numbers."""
        return ()

    @property
    def class_weights(self) -> tuple[float, ...]:
        """Weight of each class in losses on labels alone; empty if all are equal."""
        return ()

    @property
    def output_normalisation(self) -> Mapping[str, Normalisation]:
        """Mean and deviation of outputs in the units of their targets, by name; a family's last layer applies them."""
        return {}

    def measuring(self, names: Sequence[str]) -> Task:
        """Return the same task with these metrics first, if it can choose; the same task otherwise."""
        return self

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the figures from `measure`. The first is the primary one: stopping rules follow it."""

    def base_loss(self, outputs: Batch, targets: Batch) -> Tensor:
        """Return the loss without a teacher: a float32 scalar, the mean over the batch."""

    def compact(self, outputs: Arrays) -> Arrays:
        """Return what `measure` needs of the outputs of some samples, in less memory; the outputs by default."""
        return outputs

    def measure(self, outputs: Arrays, targets: Arrays) -> dict[str, float]:
        """Return every metric of the outputs of a whole split, or of their compact form."""

    @property
    def learns_from_outputs(self) -> bool:
        """True if outputs of a teacher can be targets; see `as_targets`."""
        return False

    def as_targets(self, outputs: Batch) -> Batch:
        """Return a teacher's outputs as targets; RequestError if outputs and targets differ in kind."""
        raise RequestError(f"outputs as targets need a regression, but the task is {self.name}")

    def mixed(self, targets: Batch, others: Batch, share: Tensor) -> Batch:
        """Return soft targets: `share` (B,) of `targets` and the rest of `others`.

        `base_loss` and `labels` take them too. RequestError if such targets have no meaning.
        """
        raise RequestError(f"mixup and cutmix need soft targets, but the task {self.name} has none; leave them out")

    def chance(self, metric: str) -> float | None:
        """Return the value of a metric without any knowledge; None if there is no such level."""

    def agreement(self, found: Arrays, expected: Arrays, *, rounding: Rounding, name: str) -> Agreement:
        """Compare the outputs of a file with those of the module it was exported from.

        found, expected: outputs of the file and of the module for the same samples. rounding: of the file's
        activations. name: of the file, for the error text. Raises ExportError if rounding does not explain their
        difference.
        """

    def logits(self, outputs: Batch) -> Tensor:
        """Return the logits (B, ..., C) for loss terms on logits; RequestError if the task has none.

        A constant added to the C values of a row changes nothing.
        """
        raise RequestError(f"losses on logits need a task with classes, but {self.name} has none; use task_loss")

    @property
    def lacks_labels(self) -> bool:
        """True if training samples may have no label. Terms on labels leave these samples out.

        Rows of `labels` are then -1.
        """
        return False

    def labelled(self, targets: Batch) -> Tensor:
        """Return True for each sample with a label, bool (B,); all of them by default."""
        return torch.ones(count(targets), dtype=torch.bool, device=device_of(targets))

    def labels(self, targets: Batch) -> Tensor:
        """Return the class labels int64 (B, ...) for loss terms on labels; RequestError if the task has none.

        Those of soft targets are probabilities, float32 (B, ..., C).
        """
        raise RequestError(f"losses on labels need a task with classes, but {self.name} has none; use task_loss")


def chosen_metrics(own: Sequence[str], wanted: Sequence[str], known: Collection[str]) -> tuple[str, ...]:
    """Return the wanted metrics among the known ones, then the task's own, each once.

    >>> chosen_metrics(["accuracy"], ["latency_ms", "auroc"], ["accuracy", "auroc"])
    ('auroc', 'accuracy')
    """
    return tuple(dict.fromkeys([*(name for name in wanted if name in known), *own]))


def task_chance(task: Task) -> dict[str, float]:
    """The chance levels of a task by metric, without the metrics that have none."""
    levels = {name: task.chance(name) for name in task.metrics}
    return {name: level for name, level in levels.items() if level is not None}


def weight_of(weights: Sequence[float], like: Tensor) -> Tensor | None:
    """Return class weights as float32 on the device of a tensor; None if there are none."""
    return torch.tensor(weights, device=like.device) if weights else None
