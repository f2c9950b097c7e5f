"""A task with further metrics, measured by functions of the user."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from torch import Tensor

from nas_compress.errors import MetricError, describe
from nas_compress.tasks.batch import Arrays, Batch
from nas_compress.tasks.export_tolerance import Agreement, Rounding
from nas_compress.tasks.task import Task, chosen_metrics
from nas_compress.values.normalisation import Normalisation
from nas_compress.values.signature import Signature, TensorSpec

OwnScore: TypeAlias = Callable[[Any, Any], object]
"""From answers and targets to a number; each is an array, or a mapping of arrays if there are several."""


@dataclass(frozen=True, kw_only=True)
class WithOwnMetrics:
    """Another task that measures the user's metrics too.

    task: everything else. scores: functions by metric. levels: chance levels of these metrics. first: metrics by
    importance.
    """

    task: Task
    scores: Mapping[str, OwnScore]
    levels: Mapping[str, float]
    first: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of the other task."""
        return self.task.name

    @property
    def signature(self) -> Signature:
        """Inputs and outputs."""
        return self.task.signature

    @property
    def targets(self) -> tuple[TensorSpec, ...]:
        """Targets of a sample."""
        return self.task.targets

    @property
    def classes(self) -> int | None:
        """Number of classes."""
        return self.task.classes

    @property
    def row_classes(self) -> int | None:
        """Size of the last dimension of `logits`."""
        return self.task.row_classes

    @property
    def class_names(self) -> tuple[str, ...]:
        """Words of the classes."""
        return self.task.class_names

    @property
    def class_weights(self) -> tuple[float, ...]:
        """Weight of each class."""
        return self.task.class_weights

    @property
    def output_normalisation(self) -> Mapping[str, Normalisation]:
        """Mean and deviation of outputs."""
        return self.task.output_normalisation

    @property
    def metrics(self) -> tuple[str, ...]:
        """The chosen metrics, then the others of the task, then the user's."""
        every = (*self.task.metrics, *self.scores)
        return chosen_metrics(every, self.first, every)

    def measuring(self, names: Sequence[str]) -> WithOwnMetrics:
        """Return the same task with the known ones of these metrics first."""
        return replace(self, task=self.task.measuring(names), first=tuple(names))

    def base_loss(self, outputs: Batch, targets: Batch) -> Tensor:
        """Return the loss without a teacher."""
        return self.task.base_loss(outputs, targets)

    def compact(self, outputs: Arrays) -> Arrays:
        """Return what the metrics need of the outputs of some samples."""
        return self.task.compact(outputs)

    def measure(self, outputs: Arrays, targets: Arrays) -> dict[str, float]:
        """Return every metric. MetricError if a function of the user raises an error or returns no finite number."""
        figures = self.task.measure(outputs, targets)
        figures |= {name: own_figure(name, score, outputs, targets) for name, score in self.scores.items()}
        return {name: figures[name] for name in self.metrics}

    @property
    def learns_from_outputs(self) -> bool:
        """True if outputs of a teacher can be targets."""
        return self.task.learns_from_outputs

    def as_targets(self, outputs: Batch) -> Batch:
        """Return a teacher's outputs as targets."""
        return self.task.as_targets(outputs)

    def mixed(self, targets: Batch, others: Batch, share: Tensor) -> Batch:
        """Return soft targets of mixed samples."""
        return self.task.mixed(targets, others, share)

    def chance(self, metric: str) -> float | None:
        """Return the value of a metric without any knowledge."""
        return self.levels.get(metric) if metric in self.scores else self.task.chance(metric)

    def agreement(self, found: Arrays, expected: Arrays, *, rounding: Rounding, name: str) -> Agreement:
        """Compare the outputs of a file with those of the module."""
        return self.task.agreement(found, expected, rounding=rounding, name=name)

    def logits(self, outputs: Batch) -> Tensor:
        """Return the logits for loss terms."""
        return self.task.logits(outputs)

    @property
    def lacks_labels(self) -> bool:
        """True if samples may be without a label."""
        return self.task.lacks_labels

    def labelled(self, targets: Batch) -> Tensor:
        """Return True for each sample with a label."""
        return self.task.labelled(targets)

    def labels(self, targets: Batch) -> Tensor:
        """Return the labels for loss terms."""
        return self.task.labels(targets)


def own_figure(name: str, score: OwnScore, outputs: Arrays, targets: Arrays) -> float:
    """Return one metric of the user; MetricError if the function raises an error or returns no finite number."""
    try:
        returned: Any = score(_alone(outputs), _alone(targets))
        figure = float(returned)
    except Exception as error:  # code of the user may raise anything
        raise MetricError(
            f"metric {name} must be a finite number, but its function raised {describe(error)}"
        ) from error
    if not -float("inf") < figure < float("inf"):
        raise MetricError(f"metric {name} must be a finite number, but its function returned {figure}")
    return figure


def _alone(arrays: Arrays) -> Any:
    """Return the only array itself, or the mapping."""
    return next(iter(arrays.values())) if len(arrays) == 1 else arrays
