"""Segmentation: images to a class for each pixel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from nas_compress.errors import RequestError
from nas_compress.tasks.batch import Arrays, Batch
from nas_compress.tasks.export_tolerance import Agreement, Rounding, compared
from nas_compress.tasks.scores import SEGMENTATION, pixel_counts
from nas_compress.tasks.task import Task, chosen_metrics, weight_of
from nas_compress.values.file_constants import OUTPUT_NAME
from nas_compress.values.metrics.table import METRICS
from nas_compress.values.signature import BATCH, Signature, TensorSpec

MASK = "mask"
"""Name of the target: the class of each pixel."""

IGNORED = 255
"""Value of a mask for pixels that count neither in losses on labels nor in metrics."""

AGREEMENT: Mapping[Rounding, float] = {"none": 0.999, "integers": 0.9, "few_bits": 0.7}
"""Least fraction of pixels for which file and module choose the same class; see `tasks.classification`."""


@dataclass(frozen=True, kw_only=True)
class Segmentation(Task):
    """One image (N, C, H, W) to float32 `logits` (N, classes, H, W).

    Losses on logits see each pixel as a sample of its own. Terms on the teacher read every pixel, terms on labels read
    the pixels with a label.

    inputs: the raw image. class_count: 2 to 255. metrics: names in `tasks.scores.SEGMENTATION`.
    class_weights: see `Classification`.
    """

    inputs: tuple[TensorSpec, ...]
    class_count: int
    metrics: tuple[str, ...] = ("mean_iou", "pixel_accuracy")
    class_weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not 2 <= self.class_count <= IGNORED:
            raise RequestError(f"2 <= class_count <= {IGNORED} must hold, but got class_count={self.class_count}")
        _ = self.signature

    @property
    def name(self) -> str:
        """The name in the table of tasks."""
        return "segmentation"

    @property
    def classes(self) -> None:
        """None: a sample has no single class."""

    @property
    def row_classes(self) -> int:
        """The classes of a pixel."""
        return self.class_count

    @cached_property
    def signature(self) -> Signature:
        """The image, and one output, `logits`, of its height and width."""
        (image,) = self.inputs
        if len(image.shape) != 4:
            raise RequestError(f"segmentation needs images (N, C, H, W), but got {image.name} {image.shape}")
        logits = TensorSpec(name=OUTPUT_NAME, dtype="float32", shape=(BATCH, self.class_count, *image.shape[2:]))
        return Signature(inputs=self.inputs, outputs=(logits,))

    @property
    def targets(self) -> tuple[TensorSpec, ...]:
        """The class of each pixel or IGNORED, uint8 (N, H, W), as `mask`."""
        return (TensorSpec(name=MASK, dtype="uint8", shape=(BATCH, *self.inputs[0].shape[2:])),)

    def measuring(self, names: Sequence[str]) -> Segmentation:
        """Return the same task with the known ones of these metrics first."""
        return replace(self, metrics=chosen_metrics(self.metrics, names, SEGMENTATION))

    def base_loss(self, outputs: Batch, targets: Batch) -> Tensor:
        """Return the mean cross-entropy over the pixels with a label; 0 if there are none."""
        mask, logits = targets[MASK].long(), outputs[OUTPUT_NAME].float()
        weight = weight_of(self.class_weights, logits)
        total = F.cross_entropy(logits, mask, weight=weight, ignore_index=IGNORED, reduction="sum")
        known = mask != IGNORED
        parts = known.sum() if weight is None else weight[mask[known]].sum()
        return total / torch.where(parts > 0, parts, 1)

    def compact(self, outputs: Arrays) -> Arrays:
        """Return the class of each pixel, uint8 (N, H, W), in place of the logits."""
        return {OUTPUT_NAME: _answers(outputs)}

    def measure(self, outputs: Arrays, targets: Arrays) -> dict[str, float]:
        """Return every metric of logits or of their compact form."""
        counts = pixel_counts(_answers(outputs), targets[MASK], classes=self.class_count, ignored=IGNORED)
        return {name: SEGMENTATION[name](counts) for name in self.metrics}

    def chance(self, metric: str) -> float | None:
        """Return the figure of a random guess if all classes are equally frequent."""
        level = METRICS[metric].chance if metric in SEGMENTATION else None
        return None if level is None else level(self.class_count)

    def agreement(self, found: Arrays, expected: Arrays, *, rounding: Rounding, name: str) -> Agreement:
        """Compare the class of each pixel, and the logits as well if nothing is rounded."""
        same = found[OUTPUT_NAME].argmax(axis=1) == expected[OUTPUT_NAME].argmax(axis=1)
        return compared(same, found, expected, least=AGREEMENT, rounding=rounding, name=name)

    def logits(self, outputs: Batch) -> Tensor:
        """Return the logits of every pixel, (B, H, W, classes)."""
        return outputs[OUTPUT_NAME].movedim(1, -1)

    def labels(self, targets: Batch) -> Tensor:
        """Return the class of every pixel, int64 (B, H, W), and -1 without a label."""
        mask = targets[MASK].long()
        return torch.where(mask == IGNORED, -1, mask)

    @property
    def lacks_labels(self) -> bool:
        """True: pixels may have no label."""
        return True

    def labelled(self, targets: Batch) -> Tensor:
        """Return True for each sample with a labelled pixel."""
        return (targets[MASK] != IGNORED).flatten(1).any(dim=1)


def _answers(outputs: Arrays) -> NDArray[np.uint8]:
    values = outputs[OUTPUT_NAME]
    return (values.argmax(axis=1) if values.ndim == 4 else values).astype(np.uint8)
