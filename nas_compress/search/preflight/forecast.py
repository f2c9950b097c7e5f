"""Forecast of a study's time and of its budgets, from untrained files and a few timed batches."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from nas_compress.callbacks import Notice, no_notice
from nas_compress.losses.table import TASK_LOSS
from nas_compress.losses.training_loss import TrainingLoss
from nas_compress.search.preflight.budget_coverage import Share, budget_shares
from nas_compress.search.preflight.feasibility import Reach, Sized, draw_candidates, measure_untrained, within_reach
from nas_compress.search.preflight.teacher_check import check_own_teacher
from nas_compress.search.setup import StudyParts
from nas_compress.teacher.obtain import teacher_architecture
from nas_compress.training.loop import train
from nas_compress.training.objective import LossObjective
from nas_compress.training.schedule import planned_epochs
from nas_compress.values.architecture import Architecture
from nas_compress.values.candidate import Candidate
from nas_compress.values.outcome import Measured

TIMED_BATCHES = 6
OVERHEAD_S = 1.0
"""Seconds of a trial without training: export, measuring, writing."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A candidate of the space with the cost of its untrained file and the seconds of its trial."""

    label: str
    measured: Measured
    weight_bits: int
    activation_bits: int
    trial_s: float


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Result of `check`. teacher: cost of its file, None for the user's own teacher."""

    points: float
    sized: list[Sized]
    samples: tuple[Sample, ...]
    reaches: tuple[Reach, ...]
    shares: tuple[Share, ...]
    teacher: Measured | None
    teacher_s: float
    trial_s: float
    study_s: float


def forecast(parts: StudyParts, notice: Notice = no_notice) -> Forecast:
    """Build, export and time the smallest, a middle and the largest candidate. Nothing is kept.

    notice: receives a line about weights of the teacher that were found under another key or prefix.
    """
    check_own_teacher(parts, notice)
    sized, sampled = draw_candidates(parts)
    chosen = {"smallest": sized[0], "middle": sized[len(sized) // 2], "largest": sized[-1]}
    with parts.target.provisional() as target, parts.named.provisional() as named:
        parts = replace(parts, target=target, named=named)
        teacher, teacher_s = _teacher_cost(parts)
        teacher_macs = int(teacher.figure("macs")) if teacher else 0
        samples = tuple(_sample(label, item, parts, teacher_macs) for label, item in chosen.items())
        reaches, shares = within_reach(parts, sized), budget_shares(parts, sized)
    trial_s = sum(sample.trial_s for sample in samples) / len(samples)
    return Forecast(
        points=sampled.points,
        sized=sized,
        samples=samples,
        reaches=reaches,
        shares=shares,
        teacher=teacher,
        teacher_s=teacher_s,
        trial_s=trial_s,
        study_s=teacher_s + parts.spec.trials * trial_s,
    )


def quick_forecast(parts: StudyParts, sized: Sequence[Sized]) -> float:
    """Return the seconds of a study from a few timed batches of its middle candidate; no file is measured.

    parts: their data may have more training samples than the study uses. sized: candidates of the space by size.
    """
    section, middle = parts.spec.teacher, sized[len(sized) // 2]
    samples = len(parts.dataset.train)
    share = min(samples, parts.spec.data.train_samples or samples) / samples
    teacher_s = 0.0
    if section.is_trained:
        architecture = teacher_architecture(section, parts.dataset, parts.file.label)
        teacher_s = share * section.epochs * _epoch_seconds(architecture, parts)
    epochs = share * parts.spec.training.epochs * middle.candidate.teaching.trainings
    return teacher_s + parts.spec.trials * (
        OVERHEAD_S + epochs * _epoch_seconds(middle.architecture, parts.reading(middle.candidate))
    )


def duration_in_words(seconds: float) -> str:
    """Return a duration in seconds, minutes or hours.

    >>> duration_in_words(40), duration_in_words(600), duration_in_words(9000)
    ('40 s', '10 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _sample(label: str, item: Sized, parts: StudyParts, teacher_macs: int) -> Sample:
    measured = measure_untrained(item.candidate, item.architecture, parts)
    training = parts.spec.training
    epochs = planned_epochs(
        epochs=training.epochs,
        budget=training.budget,
        cap=training.cap,
        macs=int(measured.figure("macs")) * item.candidate.teaching.trainings,
        teacher_macs=teacher_macs or int(measured.figure("macs")),
    )
    epochs *= item.candidate.teaching.trainings
    return Sample(
        label=label,
        measured=measured,
        weight_bits=item.candidate.precision.weight_bits,
        activation_bits=item.candidate.precision.activation_bits,
        trial_s=OVERHEAD_S + epochs * _epoch_seconds(item.architecture, parts.reading(item.candidate)),
    )


def _teacher_cost(parts: StudyParts) -> tuple[Measured | None, float]:
    """Return the cost of the teacher's file and the seconds of its training; nothing for the user's own teacher."""
    section = parts.spec.teacher
    if not section.is_trained:
        return None, 0.0
    architecture = teacher_architecture(section, parts.dataset, parts.file.label)
    plain = Candidate(family=section.family, depths=architecture.depths)
    measured = measure_untrained(plain, architecture, parts)
    return measured, section.epochs * _epoch_seconds(architecture, parts)


def _epoch_seconds(architecture: Architecture, parts: StudyParts) -> float:
    """Return the seconds of one epoch, from a few batches after a warm-up."""
    network = parts.build(architecture).to(parts.device)
    _train_batches(network, 1, parts)
    started = time.perf_counter()
    batches = _train_batches(network, TIMED_BATCHES, parts)
    per_batch = (time.perf_counter() - started) / batches
    return per_batch * max(1, len(parts.dataset.train) // parts.spec.training.batch_size)


def _train_batches(network: torch.nn.Module, batches: int, parts: StudyParts) -> int:
    training, whole = parts.spec.training, parts.dataset.train
    count = min(len(whole), batches * training.batch_size)
    few = whole.first(count).to(parts.device)
    train(
        network,
        few,
        parts.dataset.augmentation,
        objective=LossObjective(TrainingLoss(parts.dataset.task, TASK_LOSS)),
        epochs=1,
        batch_size=training.batch_size,
        learning_rate=training.learning_rate,
        weight_decay=training.weight_decay,
        seed=0,
    )
    return max(1, count // training.batch_size)
