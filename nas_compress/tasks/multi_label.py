"""Multi-label classification: any number of labels for each sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from nas_compress.errors import RequestError
from nas_compress.tasks.batch import Arrays, Batch
from nas_compress.tasks.classification import NO_LABEL
from nas_compress.tasks.export_tolerance import Agreement, Rounding, compared
from nas_compress.tasks.scores import MULTI_LABEL
from nas_compress.tasks.task import Task, chosen_metrics
from nas_compress.values.file_constants import OUTPUT_NAME
from nas_compress.values.metrics.table import METRICS
from nas_compress.values.signature import BATCH, Signature, TensorSpec

LABELS = "labels"
"""Name of the target."""

MIXED_NDIM = 3
"""Dimensions of mixed targets; others have two."""

AGREEMENT: Mapping[Rounding, float] = {"none": 0.999, "integers": 0.95, "few_bits": 0.85}
"""Least fraction of single answers (sample and label) on which file and module agree."""


@dataclass(frozen=True, kw_only=True)
class MultiLabel(Task):
    """Inputs of any type and shape to float32 `logits` (N, labels); a label is answered if its logit is above 0.

    Losses on logits see each label as a task of two classes, with the logits z and 0: then `softmax` of the pair is the
    label's sigmoid, and distillation compares the sigmoids.

    inputs: raw tensors of a sample. label_count: at least 1. metrics: names in `tasks.scores.MULTI_LABEL`.
    lacks_labels: labels of a training sample may be nan.
    """

    inputs: tuple[TensorSpec, ...]
    label_count: int
    metrics: tuple[str, ...] = ("f1_macro", "average_precision")
    lacks_labels: bool = False

    def __post_init__(self) -> None:
        if self.label_count < 1:
            raise RequestError(f"label_count >= 1 must hold, but got label_count={self.label_count}")

    @property
    def name(self) -> str:
        """The name in the table of tasks."""
        return "multi_label"

    @property
    def classes(self) -> None:
        """None: a sample has no single class."""

    @property
    def row_classes(self) -> int:
        """Two: absent and present."""
        return 2

    @cached_property
    def signature(self) -> Signature:
        """The inputs, and one output, `logits`."""
        logits = TensorSpec(name=OUTPUT_NAME, dtype="float32", shape=(BATCH, self.label_count))
        return Signature(inputs=self.inputs, outputs=(logits,))

    @property
    def targets(self) -> tuple[TensorSpec, ...]:
        """0 or 1 for each label, float32 (N, labels), as `labels`."""
        return (TensorSpec(name=LABELS, dtype="float32", shape=(BATCH, self.label_count)),)

    def measuring(self, names: Sequence[str]) -> MultiLabel:
        """Return the same task with the known ones of these metrics first."""
        return replace(self, metrics=chosen_metrics(self.metrics, names, MULTI_LABEL))

    def base_loss(self, outputs: Batch, targets: Batch) -> Tensor:
        """Return the mean binary cross-entropy over samples and labels; 0 if no sample has labels."""
        labels, logits = targets[LABELS], outputs[OUTPUT_NAME].float()
        present = labels[..., 1] if labels.ndim == MIXED_NDIM else labels
        if self.lacks_labels:
            known = self.labelled(targets)
            if not bool(known.any()):
                return logits.sum() * 0.0
            logits, present = logits[known], present[known]
        return F.binary_cross_entropy_with_logits(logits, present)

    def measure(self, outputs: Arrays, targets: Arrays) -> dict[str, float]:
        """Return every metric of the task."""
        return {name: MULTI_LABEL[name](outputs[OUTPUT_NAME], targets[LABELS]) for name in self.metrics}

    def mixed(self, targets: Batch, others: Batch, share: Tensor) -> Batch:
        """Return the probabilities of absence and presence of each label, float32 (B, labels, 2), as `labels`."""
        present = share[:, None] * targets[LABELS] + (1 - share)[:, None] * others[LABELS]
        return {LABELS: torch.stack([1 - present, present], dim=-1)}

    def chance(self, metric: str) -> float | None:
        """Return 0.5 for the area under the curve; other metrics depend on the frequency of the labels."""
        level = METRICS[metric].chance if metric == "auroc" else None
        return None if level is None else level(2)

    def agreement(self, found: Arrays, expected: Arrays, *, rounding: Rounding, name: str) -> Agreement:
        """Compare the answered labels, and the logits as well if nothing is rounded."""
        answers, wanted = found[OUTPUT_NAME] > 0, expected[OUTPUT_NAME] > 0
        return compared(answers == wanted, found, expected, least=AGREEMENT, rounding=rounding, name=name)

    def logits(self, outputs: Batch) -> Tensor:
        """Return the logits of absence and presence of every label, (B, labels, 2)."""
        present = outputs[OUTPUT_NAME]
        return torch.stack([torch.zeros_like(present), present], dim=-1)

    def labels(self, targets: Batch) -> Tensor:
        """Return the class of every label, 1 if it is present, int64 (B, labels); see `mixed` for soft ones."""
        labels = targets[LABELS]
        if labels.ndim == MIXED_NDIM:
            return labels
        return labels.nan_to_num(NO_LABEL).long()

    def labelled(self, targets: Batch) -> Tensor:
        """Return True for each sample with all its labels."""
        return ~targets[LABELS].flatten(1).isnan().any(dim=1)
