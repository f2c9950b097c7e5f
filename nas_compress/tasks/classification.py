"""Classification: inputs of any kind to one of several classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from torch import Tensor
from torch.nn import functional as F

from nas_compress.errors import RequestError
from nas_compress.tasks.batch import Arrays, Batch
from nas_compress.tasks.export_tolerance import Agreement, Rounding, compared
from nas_compress.tasks.scores import CLASSIFICATION
from nas_compress.tasks.task import Task, chosen_metrics, weight_of
from nas_compress.values.file_constants import INPUT_NAME, OUTPUT_NAME
from nas_compress.values.metrics.table import METRICS
from nas_compress.values.signature import BATCH, Signature, TensorSpec

IMAGES = "image_classification"
"""Name of the task of raw images."""

LABEL = "label"
"""Name of the target: the class of a sample."""

NO_LABEL = -1
"""Class of a training sample without a label."""

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
class Classification(Task):
    """Inputs of any type and shape to float32 `logits` (N, classes).

    inputs: raw tensors of a sample. classes: at least 2. metrics: names in `tasks.scores.CLASSIFICATION`, the primary
    one first. class_names: words of the classes; empty if classes are numbers.
    class_weights: of losses on labels alone; empty for equal ones. lacks_labels: training samples may be NO_LABEL.
    """

    inputs: tuple[TensorSpec, ...]
    classes: int = 0  # no such task; a default hides the property of the Protocol, which cannot be set
    metrics: tuple[str, ...] = ("accuracy",)
    name: str = "classification"
    class_names: tuple[str, ...] = ()
    class_weights: tuple[float, ...] = ()
    lacks_labels: bool = False

    def __post_init__(self) -> None:
        if self.classes < 2:
            raise RequestError(f"classes >= 2 must hold, but got classes={self.classes}")

    @cached_property
    def signature(self) -> Signature:
        """The inputs, and one output, `logits`."""
        logits = TensorSpec(name=OUTPUT_NAME, dtype="float32", shape=(BATCH, self.classes))
        return Signature(inputs=self.inputs, outputs=(logits,))

    @property
    def targets(self) -> tuple[TensorSpec, ...]:
        """The class of each sample, int64 (N,), as `label`."""
        return (TensorSpec(name=LABEL, dtype="int64", shape=(BATCH,)),)

    @classmethod
    def of_images(cls, *, shape: tuple[int, int, int], classes: int) -> Classification:
        """Raw uint8 images (N, C, H, W) as `input`. shape: (C, H, W) of an image."""
        spec = TensorSpec(name=INPUT_NAME, dtype="uint8", shape=(BATCH, *shape))
        return cls(inputs=(spec,), classes=classes, name=IMAGES)

    def measuring(self, names: Sequence[str]) -> Classification:
        """Return the same task with the known ones of these metrics first."""
        return replace(self, metrics=chosen_metrics(self.metrics, names, CLASSIFICATION))

    def base_loss(self, outputs: Batch, targets: Batch) -> Tensor:
        """Return the mean cross-entropy on the labels, or on the probabilities of mixed targets.

        With class weights it is the weighted mean. It is 0 if no sample has a label.
        """
        logits, labels = self.logits(outputs).float(), self.labels(targets)
        if self.lacks_labels:
            known = self.labelled(targets)
            if not bool(known.any()):
                return logits.sum() * 0.0
            logits, labels = logits[known], labels[known]
        return F.cross_entropy(logits, labels, weight=weight_of(self.class_weights, logits))

    def measure(self, outputs: Arrays, targets: Arrays) -> dict[str, float]:
        """Return every metric of the task."""
        return {name: CLASSIFICATION[name](outputs[OUTPUT_NAME], targets[LABEL]) for name in self.metrics}

    def mixed(self, targets: Batch, others: Batch, share: Tensor) -> Batch:
        """Return the probability of each class, float32 (B, classes), as `label`."""
        own, other = (F.one_hot(each[LABEL], self.classes).float() for each in (targets, others))
        return {LABEL: share[:, None] * own + (1 - share)[:, None] * other}

    def chance(self, metric: str) -> float | None:
        """Return the figure of a random guess, by the table of metrics."""
        level = METRICS[metric].chance if metric in METRICS else None
        return None if level is None else level(self.classes)

    def agreement(self, found: Arrays, expected: Arrays, *, rounding: Rounding, name: str) -> Agreement:
        """Compare the chosen classes, and the logits as well if nothing is rounded."""
        classes, wanted = found[OUTPUT_NAME].argmax(axis=1), expected[OUTPUT_NAME].argmax(axis=1)
        return compared(classes == wanted, found, expected, least=AGREEMENT, rounding=rounding, name=name)

    def logits(self, outputs: Batch) -> Tensor:
        """Return the output `logits`."""
        return outputs[OUTPUT_NAME]

    def labels(self, targets: Batch) -> Tensor:
        """Return the target `label`."""
        return targets[LABEL]

    def labelled(self, targets: Batch) -> Tensor:
        """Return True for each sample with a class."""
        return targets[LABEL] != NO_LABEL
