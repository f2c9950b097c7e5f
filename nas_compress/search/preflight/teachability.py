"""Whether a candidate can be taught as it says, found on shapes alone, before anything is trained."""

from __future__ import annotations

from functools import cached_property

import torch

from nas_compress.errors import RequestError
from nas_compress.losses.table import TERMS, feature_terms
from nas_compress.losses.training_loss import TrainingLoss
from nas_compress.models.features import Observation
from nas_compress.search.setup import Ingredients, untrained_teacher
from nas_compress.tasks.batch import zeros
from nas_compress.tasks.task import Task
from nas_compress.teacher.obtain import teacher_architecture
from nas_compress.training.objective import observe
from nas_compress.values.architecture import Architecture
from nas_compress.values.candidate import PRUNED, Candidate, Teaching


class Teachable:
    """Checks candidates of one study; each combination of shape and teaching once."""

    def __init__(self, parts: Ingredients) -> None:
        self._parts = parts
        self._seen: set[object] = set()

    def require(self, candidate: Candidate, architecture: Architecture, *, peer: Architecture | None = None) -> None:
        """Raise RequestError where a loss or the teaching does not fit the student, the teacher or the batches.

        peer: the shape of the networks that learn beside the student, in mutual learning.
        """
        watched = bool(feature_terms(candidate.losses))
        key = (candidate.losses, candidate.teaching, (architecture, peer) if watched else None)
        if key in self._seen:
            return
        self._require_batch(candidate)
        if self._parts.spec.teacher.factory is not None:
            _require_own_teacher(candidate)
        task = self._parts.dataset.task
        student = _observe(architecture, self._parts) if watched else None
        if peer is None:
            _require_loss(candidate, task, student, self._guide(candidate.teaching) if watched else None)
        else:  # each learns from the other
            other = _observe(peer, self._parts) if watched else None
            _require_loss(candidate, task, student, other)
            _require_loss(candidate, task, other, student)
        self._seen.add(key)

    def _require_batch(self, candidate: Candidate) -> None:
        size = min(self._parts.spec.training.batch_size, len(self._parts.dataset.train))
        for term in candidate.losses:
            least = TERMS[term.name].min_batch
            if size < least:
                raise RequestError(
                    f"training.batch_size >= {least} must hold for loss {term.name!r}, which compares samples, "
                    f"but got {size}"
                )

    def _guide(self, teaching: Teaching) -> Observation:
        """What the student's teacher shows. An assistant is of one of our families, whatever its own teacher is."""
        return self._assistant if teaching.teacher == "assistant" else self._teacher

    @cached_property
    def _teacher(self) -> Observation:
        """What the study's teacher shows; a module of the user's own what its named modules give."""
        section = self._parts.spec.teacher
        if section.factory is None:
            return self._assistant
        with torch.no_grad():
            batch, task = self._parts.dataset.example, self._parts.dataset.task
            return observe(untrained_teacher(self._parts).eval(), batch, task, watched=section.features)

    @cached_property
    def _assistant(self) -> Observation:
        """What a network of the teacher's family shows: of its depth, though wider than an assistant."""
        section, dataset = self._parts.spec.teacher, self._parts.dataset
        return _observe(teacher_architecture(section, dataset, self._parts.file.label), self._parts)


def _require_loss(candidate: Candidate, task: Task, student: Observation | None, teacher: Observation | None) -> None:
    teaching = candidate.teaching
    with torch.device("meta"):
        TrainingLoss(
            task,
            candidate.losses,
            student=student,
            teacher=teacher,
            annealing=teaching.annealing,
            soft_stop=teaching.soft_stop,
        )


def _require_own_teacher(candidate: Candidate) -> None:
    teaching = candidate.teaching
    wanted = (
        "teacher='ensemble'"
        if teaching.teacher == "ensemble"
        else f"checkpoint={teaching.checkpoint:g}"
        if teaching.checkpoint not in (None, 1.0)
        else ""
    )
    if wanted:
        raise RequestError(f"teaching with {wanted} needs a teacher that the study trains, not teacher.factory")


def _observe(architecture: Architecture, parts: Ingredients) -> Observation:
    """What a network of that shape shows of two samples: on shapes alone, but for a module of the user's own make."""
    device = torch.device("cpu" if architecture.family == PRUNED else "meta")
    with device, torch.no_grad():
        network = parts.build(architecture).eval()
        task = parts.dataset.task
        return observe(
            network, zeros(task.signature.inputs, 2), task, relations=True, watched=parts.spec.teacher.features
        )
