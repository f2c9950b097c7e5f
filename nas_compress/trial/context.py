"""Context shared by all trials of a study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from nas_compress.config.schema import TrainingSection
from nas_compress.data.augment.protocol import Augmentation, Views
from nas_compress.data.dataset import Dataset, Split
from nas_compress.devices.protocol import Device
from nas_compress.losses.table import needs_teacher
from nas_compress.measurement.named_devices import NamedDevices
from nas_compress.measurement.pipeline import calibration_samples
from nas_compress.tasks.batch import Batch
from nas_compress.tasks.class_weights import draws_of
from nas_compress.teacher.teacher import Teacher
from nas_compress.values.metrics.table import Budget
from nas_compress.values.teaching import LossTerm


@dataclass(frozen=True, kw_only=True, eq=False)
class TrialContext:
    """Data, teacher, target device and settings of a study.

    teacher_macs: multiply-adds of the teacher for one sample; budget `scratch_b` trains with its compute.
    budgets: limits on the figures of a trial. target: checks and times the files. named: devices that time them too.
    device: trains the networks.
    """

    dataset: Dataset
    teacher: Teacher
    teacher_macs: int
    target: Device
    training: TrainingSection
    budgets: tuple[Budget, ...]
    device: torch.device
    named: NamedDevices = field(default_factory=NamedDevices)

    def at(self, size: int | None) -> TrialContext:
        """Return the context of candidates with pictures of a size; the teacher keeps its own. See `Dataset.at`."""
        dataset = self.dataset.at(size)
        if dataset is self.dataset:
            return self
        return self._sized.setdefault(dataset.fingerprint, replace(self, dataset=dataset))

    @cached_property
    def _sized(self) -> dict[str, TrialContext]:
        return {}

    @cached_property
    def train(self) -> Split:
        """The training split on the training device."""
        own = self.dataset is self.teacher.dataset
        return self.teacher.train_samples if own else self.dataset.train.to(self.device)

    @cached_property
    def teacher_views(self) -> Views | None:
        """The teacher's training samples in all views, if they have another size than the students'."""
        if self.dataset is self.teacher.dataset:
            return None
        return self.teacher.dataset.augmentation.over(self.teacher.train_samples.inputs)

    @cached_property
    def validation(self) -> Split:
        """The validation split on the training device."""
        return self.dataset.validation.to(self.device)

    def draws(self, losses: Sequence[LossTerm]) -> Tensor | None:
        """Chance of each training sample in an epoch; None for each sample once.

        Without a term on the teacher, samples with a label take the place of all others: the number of steps is equal.
        """
        known = self._labelled
        if needs_teacher(losses) or bool(known.all()):
            return self._drawn
        return known.double() if self._drawn is None else known * self._drawn

    def augmentation(self, losses: Sequence[LossTerm]) -> Augmentation:
        """Views of the training samples; without a term on the teacher, those for labels alone."""
        return self.dataset.augmentation if needs_teacher(losses) else self.dataset.augmentation.for_labels

    @cached_property
    def _drawn(self) -> Tensor | None:
        return draws_of(self.dataset.task, self.dataset.train.targets, self.training.sampler)

    @cached_property
    def _labelled(self) -> Tensor:
        return self.dataset.task.labelled(self.dataset.train.targets).cpu()

    @cached_property
    def calibration(self) -> Batch:
        """Training samples for the ranges of activations, on the CPU."""
        return calibration_samples(self.dataset.train)
