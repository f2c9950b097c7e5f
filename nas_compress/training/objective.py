"""What one step of training minimises: the student's look at a batch, the teacher's beside it, and their loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from nas_compress.losses.training_loss import TrainingLoss
from nas_compress.models.features import ObservableNetwork, Observation, watch
from nas_compress.training.runtime import mixed_precision


class Lesson(Protocol):
    """Loss terms of a batch by name; their sum is minimised."""

    def __call__(
        self, model: nn.Module, batch: Tensor, labels: Tensor, *, view: int, index: Tensor, progress: float
    ) -> dict[str, Tensor]:
        """Terms for `batch` (B, C, H, W), which is the samples at `index` (B,) in `view`.

        progress: the fraction of the planned steps that is done.
        """
        ...

    @property
    def learners(self) -> Sequence[nn.Module]:
        """Modules that are trained beside the model."""
        ...


class TaughtLesson:
    """The terms of a training loss, with a teacher where they need one.

    answers: the teacher's logits on every sample in every view, (views, N, C), or (views, N, members, C) of an
    ensemble, on the samples' device. teacher: the network itself, in eval mode, run once a batch while some term reads
    features. watched: the modules whose outputs are the features of networks that do not name their own.
    """

    def __init__(
        self,
        loss: TrainingLoss,
        *,
        answers: Tensor | None = None,
        teacher: nn.Module | None = None,
        watched: Sequence[str] = (),
    ) -> None:
        self._loss, self._answers, self._teacher, self._watched = loss, answers, teacher, watched

    @property
    def learners(self) -> Sequence[nn.Module]:
        """The loss, whose adaptation layers learn."""
        return [self._loss]

    def __call__(
        self, model: nn.Module, batch: Tensor, labels: Tensor, *, view: int, index: Tensor, progress: float
    ) -> dict[str, Tensor]:
        """The loss terms of a batch; see `Lesson`."""
        relations = self._loss.reads_relations(progress)
        watched = self._watched if self._loss.reads_features(progress) else ()
        with mixed_precision(batch.device):
            student = look(model, batch, relations=relations, watched=watched)
            seen = None
            if self._teacher is not None and self._loss.reads_features(progress):
                with torch.no_grad():
                    seen = look(self._teacher, batch, relations=relations, watched=watched)
        answers = None if self._answers is None else self._answers[view].index_select(0, index)
        return self._loss(student, labels, _joined(answers, seen), progress)  # type: ignore[no-any-return]


def look(model: nn.Module, batch: Tensor, *, relations: bool = False, watched: Sequence[str] = ()) -> Observation:
    """What a network shows of a batch: its own features, or what its `watched` modules give where it names none."""
    if isinstance(model, ObservableNetwork):
        return model.observe(batch, relations=relations)
    return watch(model, batch, watched)


def _joined(answers: Tensor | None, seen: Observation | None) -> Observation | None:
    """The kept answers with the features of this step: for logits the answers of all members, where there are any."""
    if seen is None:
        return None if answers is None else Observation(logits=answers)
    if answers is None:
        return seen
    return Observation(logits=answers, features=seen.features, relations=seen.relations, patches=seen.patches)
