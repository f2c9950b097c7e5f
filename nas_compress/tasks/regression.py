"""Regression: inputs of any kind to one or several numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from nas_compress.errors import RequestError
from nas_compress.tasks.batch import Arrays, Batch
from nas_compress.tasks.export_tolerance import Agreement, Rounding, compared
from nas_compress.tasks.scores import REGRESSION
from nas_compress.tasks.task import Task, chosen_metrics
from nas_compress.values.metrics.table import METRICS
from nas_compress.values.normalisation import Normalisation
from nas_compress.values.signature import BATCH, Signature, TensorSpec

VALUES, TARGETS = "values", "targets"
"""Names of the output and of the target."""

NEAR = 0.1
"""Outputs agree if they differ by at most this fraction of the targets' standard deviation."""

AGREEMENT: Mapping[Rounding, float] = {"none": 0.999, "integers": 0.9, "few_bits": 0.5}
"""Least fraction of single outputs of file and module that agree."""


@dataclass(frozen=True, kw_only=True)
class Regression(Task):
    """Inputs of any type and shape to float32 `values` (N, K), in the units of the targets.

    inputs: raw tensors of a sample. mean, std: of each target on the training split; the network's last layer answers
    in these units, and the loss is measured in them.
    metrics: names in `tasks.scores.REGRESSION`. lacks_labels: targets of a training sample may be nan.
    """

    inputs: tuple[TensorSpec, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    metrics: tuple[str, ...] = ("r2", "mse", "mae")
    lacks_labels: bool = False

    def __post_init__(self) -> None:
        if not self.mean or len(self.mean) != len(self.std) or not min(self.std) > 0:
            raise RequestError(f"mean and std > 0 must have one number per target, but got {self.mean} and {self.std}")

    @property
    def name(self) -> str:
        """The name in the table of tasks."""
        return "regression"

    @property
    def classes(self) -> None:
        """None: there are no classes."""

    @cached_property
    def signature(self) -> Signature:
        """The inputs, and one output, `values`."""
        values = TensorSpec(name=VALUES, dtype="float32", shape=(BATCH, len(self.mean)))
        return Signature(inputs=self.inputs, outputs=(values,))

    @property
    def targets(self) -> tuple[TensorSpec, ...]:
        """The numbers of each sample, float32 (N, K), as `targets`."""
        return (TensorSpec(name=TARGETS, dtype="float32", shape=(BATCH, len(self.mean))),)

    @property
    def output_normalisation(self) -> Mapping[str, Normalisation]:
        """Mean and deviation of the output."""
        return {VALUES: Normalisation(mean=self.mean, std=self.std)}

    def measuring(self, names: Sequence[str]) -> Regression:
        """Return the same task with the known ones of these metrics first."""
        return replace(self, metrics=chosen_metrics(self.metrics, names, REGRESSION))

    def base_loss(self, outputs: Batch, targets: Batch) -> Tensor:
        """Return the mean squared error in standard deviations of the targets; 0 if no sample has a label."""
        values, wanted = self.standardised(outputs[VALUES]), self.standardised(targets[TARGETS])
        if self.lacks_labels:
            known = self.labelled(targets)
            if not bool(known.any()):
                return values.sum() * 0.0
            values, wanted = values[known], wanted[known]
        return F.mse_loss(values, wanted)

    def measure(self, outputs: Arrays, targets: Arrays) -> dict[str, float]:
        """Return every metric of the task."""
        return {name: REGRESSION[name](outputs[VALUES], targets[TARGETS]) for name in self.metrics}

    @property
    def learns_from_outputs(self) -> bool:
        """True: outputs have the units of targets."""
        return True

    def as_targets(self, outputs: Batch) -> Batch:
        """Return the values as targets."""
        return {TARGETS: outputs[VALUES].detach()}

    def labelled(self, targets: Batch) -> Tensor:
        """Return True for each sample with all its numbers."""
        return ~targets[TARGETS].isnan().any(dim=1)

    def mixed(self, targets: Batch, others: Batch, share: Tensor) -> Batch:
        """Return the weighted means of the numbers."""
        return {TARGETS: share[:, None] * targets[TARGETS] + (1 - share)[:, None] * others[TARGETS]}

    def chance(self, metric: str) -> float | None:
        """Return 0 for R2, the figure of a constant answer."""
        level = METRICS[metric].chance if metric == "r2" else None
        return None if level is None else level(1)

    def agreement(self, found: Arrays, expected: Arrays, *, rounding: Rounding, name: str) -> Agreement:
        """Compare the values in standard deviations of the targets."""
        apart = np.abs(found[VALUES] - expected[VALUES]) / np.array(self.std)
        return compared(apart <= NEAR, found, expected, least=AGREEMENT, rounding=rounding, name=name)

    def standardised(self, values: Tensor) -> Tensor:
        """Return numbers (B, K) in standard deviations from the mean."""
        mean, std = (torch.tensor(numbers, device=values.device) for numbers in (self.mean, self.std))
        return (values.float() - mean) / std
