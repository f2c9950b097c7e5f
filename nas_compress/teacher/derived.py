"""Teachers derived from the study's teacher: earlier states, ensemble members and assistants. Each is made once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from torch import nn

from nas_compress.errors import RequestError
from nas_compress.files import cache_folder
from nas_compress.losses.training_loss import TrainingLoss
from nas_compress.models.families import family_named
from nas_compress.teacher.obtain import fingerprint_of, teacher_architecture, teacher_objective, training_of
from nas_compress.teacher.store import describe_stored, stored_or_trained
from nas_compress.teacher.teacher import Teacher
from nas_compress.training.objective import LossObjective, TrainingObjective
from nas_compress.values.architecture import Architecture, Width
from nas_compress.values.teaching import distillation

ASSISTANT_STEP = 8
"""Step of an assistant's widths."""


def earlier(teacher: Teacher, checkpoint: float) -> Teacher:
    """Return the teacher after a fraction of its training: 0.25, 0.5 or 0.75; 1.0 is the teacher itself."""
    if checkpoint == 1:
        return teacher
    _require_trained_here(teacher, f"checkpoint={checkpoint:g}")
    return _once(
        teacher,
        {"checkpoint": checkpoint},
        lambda folder: _trained(teacher, teacher.folder, checkpoint=checkpoint),
    )


def member(teacher: Teacher, number: int) -> Teacher:
    """Return the teacher trained again from another seed; number 0 is the teacher itself."""
    if number == 0:
        return teacher
    _require_trained_here(teacher, "teacher='ensemble'")
    seed = (teacher.section.seed + number) % 2**32
    return _once(
        teacher,
        {"seed": seed},
        lambda folder: _trained(teacher, folder, seed=seed, called=f"teacher {number + 1}"),
    )


def assistant(teacher: Teacher, size: float) -> Teacher:
    """Return a network of `size` times the teacher's widths, distilled from it.

    The loss is kd at temperature 4 with weights 0.1 and 0.9. The family is the teacher's; resnet for a user's
    module.
    """
    losses = distillation(hard_weight=0.1, soft_weight=0.9, temperature=4.0)
    return _once(
        teacher,
        {"assistant_size": size},
        lambda folder: _trained(
            teacher,
            folder,
            architecture=assistant_architecture(teacher, size),
            objective=lambda: LossObjective(TrainingLoss(teacher.dataset.task, losses), answers=teacher.answer_source),
            called="assistant",
        ),
    )


def assistant_architecture(teacher: Teacher, size: float) -> Architecture:
    """Return the shape of an assistant: every width scaled and rounded to 8 channels and whole heads."""
    shape = teacher_architecture(teacher.section, teacher.dataset, teacher.label)
    shared = family_named(shape.family).multiples([width.layer for width in shape.widths], shape.settings)
    return replace(shape, widths=tuple(_scaled(width, size, shared.get(width.layer, 1)) for width in shape.widths))


def _scaled(width: Width, size: float, multiple: int) -> Width:
    step = math.lcm(ASSISTANT_STEP, multiple)
    asked = width.channels * size
    return Width(layer=width.layer, asked=asked, channels=max(step, round(asked / step) * step))


def _require_trained_here(teacher: Teacher, wanted: str) -> None:
    if teacher.family is None:
        raise RequestError(
            f"teaching with {wanted} needs a teacher that the study trains, but {teacher.label} has "
            f"teacher.{teacher.section.source}"
        )


def _once(teacher: Teacher, made_by: Mapping[str, object], make: Callable[[Path], nn.Module]) -> Teacher:
    """Return the teacher that `make` builds in its own folder; call it once."""
    origin = {"from": teacher.fingerprint, **made_by}
    fingerprint = fingerprint_of(origin)
    if fingerprint not in teacher.derived:
        folder = cache_folder() / "teachers" / fingerprint
        network = make(folder).eval()
        teacher.derived[fingerprint] = replace(teacher, network=network, fingerprint=fingerprint, folder=folder)
        describe_stored(folder, {"fingerprint": fingerprint, "made_by": origin}, teacher.notice)
    return teacher.derived[fingerprint]


def _trained(
    teacher: Teacher,
    folder: Path,
    *,
    architecture: Architecture | None = None,
    checkpoint: float = 1.0,
    objective: Callable[[], TrainingObjective] | None = None,
    seed: int | None = None,
    called: str = "teacher",
) -> nn.Module:
    """Train a network like the teacher, with the given changes."""
    training = training_of(teacher.section, teacher.training, teacher.dataset)

    def after(done: int, count: int) -> None:
        teacher.derived_epochs += 1
        teacher.progress(called, done, count)

    return stored_or_trained(
        architecture or teacher_architecture(teacher.section, teacher.dataset, teacher.label),
        folder,
        checkpoint=checkpoint,
        objective=objective or (lambda: teacher_objective(teacher.section, teacher.dataset.task)),
        training=training if seed is None else replace(training, seed=seed),
        samples=teacher.train_samples,
        augmentation=teacher.dataset.augmentation,
        label=teacher.label,
        on_epoch=after,
        notice=teacher.notice,
    )
