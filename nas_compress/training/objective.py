"""Training objectives: the loss terms of a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nas_compress.data.augment.protocol import Views
from nas_compress.errors import refusal
from nas_compress.losses.training_loss import TrainingLoss
from nas_compress.models.features import ObservableNetwork, Observation, watch
from nas_compress.tasks.batch import Batch, device_of
from nas_compress.tasks.task import Task
from nas_compress.training.live_answers import LiveAnswers
from nas_compress.training.precision import mixed_precision, teaching_precision


class TrainingObjective(Protocol):
    """Loss terms of a batch by name; training minimises their sum."""

    def __call__(
        self, model: nn.Module, batch: Batch, targets: Batch, *, view: int, index: Tensor, progress: float
    ) -> dict[str, Tensor]:
        """Return the terms for the samples at `index` (B,) in `view`.

        progress: finished fraction of the planned steps.
        """
        ...

    @property
    def learners(self) -> Sequence[nn.Module]:
        """Modules to train together with the model."""
        ...


class LossObjective:
    """The terms of a training loss, with a teacher if they need one.

    answers: the teacher's logits of every sample in every view, (views, N, C), or (views, N, members, C) of an
    ensemble, on the samples' device; a constant may be missing in each row. Or networks that answer each batch.
    teacher: the network itself, in eval mode; it runs once per batch while an active term reads features.
    watched: submodules of a user's network; their outputs are its features.
    views: the teacher's samples, if they have another size than the student's.
    stored: the teacher's observation of the samples at an index (B,) in a view, in place of its pass.
    """

    def __init__(
        self,
        loss: TrainingLoss,
        *,
        answers: Tensor | LiveAnswers | None = None,
        teacher: nn.Module | None = None,
        watched: Sequence[str] = (),
        views: Views | None = None,
        stored: Callable[[Tensor, int], Observation] | None = None,
    ) -> None:
        self._loss, self._answers, self._teacher, self._watched = loss, answers, teacher, watched
        self._views, self._stored = views, stored

    @property
    def learners(self) -> Sequence[nn.Module]:
        """The loss, because its adaptation layers learn."""
        return [self._loss]

    def __call__(
        self, model: nn.Module, batch: Batch, targets: Batch, *, view: int, index: Tensor, progress: float
    ) -> dict[str, Tensor]:
        """Return the loss terms of a batch; see `TrainingObjective`."""
        relations = self._loss.reads_relations(progress)
        watched = self._watched if self._loss.reads_features(progress) else ()
        reads = self._teacher is not None and self._loss.reads_features(progress)
        runs = reads and self._stored is None
        shown = batch  # to the teacher
        if self._views is not None and (runs or isinstance(self._answers, LiveAnswers)):
            shown = self._views.batch(index, view)
        with mixed_precision(device_of(batch)):
            student = observe(model, batch, self._loss.task, relations=relations, watched=watched)
        seen = None
        if self._teacher is not None and runs:
            with torch.no_grad(), teaching_precision(device_of(batch)):
                seen = observe(self._teacher, shown, self._loss.task, relations=relations, watched=watched)
        if reads and self._stored is not None:
            seen = self._stored(index, view)
        answers = self._answers
        if isinstance(answers, Tensor):
            given: Tensor | None = answers[view].index_select(0, index)
        else:
            given = None if answers is None else answers(shown)
        terms: dict[str, Tensor] = self._loss(student, targets, seen, answers=given, progress=progress)
        return terms


class PenalisedObjective:
    """An objective with the further term `bn_sparsity`: weight times the sum of |scale| over all batch normalisations.

    Network slimming's penalty (Liu et al. 2017, arXiv 1708.06519, equation 1); its gradient is weight times the sign of
    each scale. RequestError if the network has no batch normalisation.
    """

    def __init__(self, objective: TrainingObjective, weight: float) -> None:
        self._objective, self._weight = objective, weight

    @property
    def learners(self) -> Sequence[nn.Module]:
        """The learners of the objective itself."""
        return self._objective.learners

    def __call__(
        self, model: nn.Module, batch: Batch, targets: Batch, *, view: int, index: Tensor, progress: float
    ) -> dict[str, Tensor]:
        """Return the terms of a batch; see `TrainingObjective`."""
        terms = self._objective(model, batch, targets, view=view, index=index, progress=progress)
        return {**terms, "bn_sparsity": self._weight * torch.cat(require_scales(model)).abs().sum()}


def require_scales(network: nn.Module, where: str = "") -> list[Tensor]:
    """Return the scales (channels,) of every batch normalisation; RequestError if there is none."""
    norms = (module for module in network.modules() if isinstance(module, _BatchNorm) and module.affine)
    scales: list[Tensor] = [norm.weight for norm in norms]
    if not scales:
        raise refusal("bn_sparsity needs batch normalisation, but the teacher has none; use bn_sparsity = 0", where)
    return scales


def observe(
    model: nn.Module, batch: Batch, task: Task, *, relations: bool = False, watched: Sequence[str] = ()
) -> Observation:
    """Run a network on a batch and record its features.

    relations: record queries, keys and values too.
    watched: submodules to record if the network has no features of its own.
    """
    if isinstance(model, ObservableNetwork):
        return model.observe(*batch.values(), relations=relations)
    return watch(model, batch, watched, outputs=task.signature.output_names)
