"""Image classification: raw images to one of several classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from nas_compress.errors import RequestError
from nas_compress.tasks.agreement import FLOAT_DIFFERENCE, Agreement, Rounding, require_agreement
from nas_compress.tasks.batch import Arrays, Batch, largest_difference
from nas_compress.values.file_contract import OUTPUT_NAME
from nas_compress.values.metrics import METRICS
from nas_compress.values.signature import BATCH, Signature, TensorSpec

LABEL = "label"
"""Name of the target: the class of an image."""

AGREEMENT: Mapping[Rounding, float] = {
    # Float files differ by the order of additions only.
    "none": 0.999,
    # Module and kernels round weights, activations and biases alike (`round_biases_`); they differ if a
    # float sum falls on the other side of a tie. Trained networks agree on 0.99 and more. A user's network with
    # another module between a rounding and the layer after it has float biases in the module only.
    "integers": 0.9,
    # The next integer is a fifteenth of the range away. Trained mobilenets agree on all of 2,000 images
    # (benchmarks/README.md); 21 residual networks of one and two epochs whose modules had float biases agreed with
    # their files on 0.73 to 0.99 of 359 digits.
    "few_bits": 0.7,
}
"""Least fraction of samples for which file and module choose the same class."""


@dataclass(frozen=True, kw_only=True)
class ImageClassification:
    """Raw uint8 images (N, C, H, W) as `input` to float32 `logits` (N, classes).

    shape: (C, H, W) of an image. classes: at least 2.
    """

    shape: tuple[int, int, int]
    classes: int

    def __post_init__(self) -> None:
        if self.classes < 2:
            raise RequestError(f"classes >= 2 must hold, but got classes={self.classes}")

    @property
    def name(self) -> str:
        """The name in the table of tasks."""
        return "image_classification"

    @cached_property
    def signature(self) -> Signature:
        """One input, `input`, and one output, `logits`."""
        return Signature.of_images(self.shape, classes=self.classes)

    @property
    def targets(self) -> tuple[TensorSpec, ...]:
        """The class of each image, int64 (N,), as `label`."""
        return (TensorSpec(name=LABEL, dtype="int64", shape=(BATCH,)),)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Accuracy alone."""
        return ("accuracy",)

    def base_loss(self, outputs: Batch, targets: Batch) -> Tensor:
        """Return the mean cross-entropy on the labels."""
        return F.cross_entropy(self.logits(outputs).float(), self.labels(targets))

    def measure(self, outputs: Arrays, targets: Arrays) -> dict[str, float]:
        """Return `accuracy`: the fraction of images with the largest logit at their label."""
        return {"accuracy": float((outputs[OUTPUT_NAME].argmax(axis=1) == targets[LABEL]).mean())}

    def chance(self, metric: str) -> float | None:
        """Return the figure of a random guess, by the table of metrics."""
        level = METRICS[metric].chance if metric in METRICS else None
        return None if level is None else level(self.classes)

    def agreement(self, found: Arrays, expected: Arrays, *, rounding: Rounding, name: str) -> Agreement:
        """Compare the chosen classes, and the logits as well if nothing is rounded."""
        classes, wanted = found[OUTPUT_NAME].argmax(axis=1), expected[OUTPUT_NAME].argmax(axis=1)
        result = Agreement(
            agreement=float((classes == wanted).mean()),
            max_difference=largest_difference(found, expected),
        )
        largest = max(1.0, float(np.abs(expected[OUTPUT_NAME]).max()))
        difference = FLOAT_DIFFERENCE * largest if rounding == "none" else np.inf
        require_agreement(result, agreement=AGREEMENT[rounding], difference=difference, name=name)
        return result

    def logits(self, outputs: Batch) -> Tensor:
        """Return the output `logits`."""
        return outputs[OUTPUT_NAME]

    def labels(self, targets: Batch) -> Tensor:
        """Return the target `label`."""
        return targets[LABEL]
