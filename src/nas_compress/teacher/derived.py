"""Teachers that come from the study's own: as it was earlier, trained again, or a smaller assistant. Each made once."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import replace

from torch import nn

from nas_compress.architecture import Architecture, Width
from nas_compress.errors import RequestError
from nas_compress.files import cache_folder, write_json
from nas_compress.losses.training_loss import TrainingLoss
from nas_compress.models.families import family_named
from nas_compress.teacher.kept import kept_or_trained
from nas_compress.teacher.teacher import Teacher, teacher_architecture, teacher_lesson, training_of
from nas_compress.teaching import distillation
from nas_compress.training.lesson import TaughtLesson

ASSISTANT_STEP = 8
"""An assistant's widths are multiples of this."""


def earlier(teacher: Teacher, checkpoint: float) -> Teacher:
    """The teacher as it was after a fraction of its training: 0.25, 0.5 or 0.75 (1.0 is the teacher itself)."""
    if checkpoint == 1:
        return teacher
    _require_trained_here(teacher, f"checkpoint={checkpoint:g}")

    def make() -> Teacher:
        network = kept_or_trained(
            teacher_architecture(teacher.section, teacher.dataset, teacher.label),
            teacher.folder,
            checkpoint=checkpoint,
            lesson=lambda: teacher_lesson(teacher.section),
            training=training_of(teacher.section, teacher.training),
            samples=teacher.train_samples,
            views=teacher.dataset.views,
            label=teacher.label,
            on_epoch=lambda done, count: teacher.progress("teacher", done, count),
        )
        return _derived(teacher, network, f"checkpoint {checkpoint:g}", {"checkpoint": checkpoint})

    return _once(teacher, f"checkpoint {checkpoint:g}", make)


def member(teacher: Teacher, number: int) -> Teacher:
    """The teacher trained again from another seed; number 0 is the teacher itself."""
    if number == 0:
        return teacher
    _require_trained_here(teacher, "teacher='ensemble'")
    seed = (teacher.section.seed + number) % 2**32
    made_by: dict[str, object] = {"seed": seed}

    def make() -> Teacher:
        training = replace(training_of(teacher.section, teacher.training), seed=seed)
        network = kept_or_trained(
            teacher_architecture(teacher.section, teacher.dataset, teacher.label),
            cache_folder() / "teachers" / _fingerprint(teacher, made_by),
            checkpoint=1.0,
            lesson=lambda: teacher_lesson(teacher.section),
            training=training,
            samples=teacher.train_samples,
            views=teacher.dataset.views,
            label=teacher.label,
            on_epoch=lambda done, count: teacher.progress(f"teacher {number + 1}", done, count),
        )
        return _derived(teacher, network, f"member {number}", made_by)

    return _once(teacher, f"member {number}", make)


def assistant(teacher: Teacher, size: float) -> Teacher:
    """A network of `size` times the teacher's widths, taught by it (kd at temperature 4, weights 0.1 and 0.9).

    Of the teacher's family; a teacher of the user's own has an assistant of family resnet.
    """
    losses = distillation(hard_weight=0.1, soft_weight=0.9, temperature=4.0)
    made_by: dict[str, object] = {"assistant_size": size}

    def make() -> Teacher:
        network = kept_or_trained(
            assistant_architecture(teacher, size),
            cache_folder() / "teachers" / _fingerprint(teacher, made_by),
            checkpoint=1.0,
            lesson=lambda: TaughtLesson(TrainingLoss(losses), answers=teacher.answers),
            training=training_of(teacher.section, teacher.training),
            samples=teacher.train_samples,
            views=teacher.dataset.views,
            label=teacher.label,
            on_epoch=lambda done, count: teacher.progress("assistant", done, count),
        )
        return _derived(teacher, network, f"assistant {size:g}", made_by)

    return _once(teacher, f"assistant {size:g}", make)


def assistant_architecture(teacher: Teacher, size: float) -> Architecture:
    """The shape of an assistant: every width scaled, and rounded to 8 channels and whole heads."""
    shape = teacher_architecture(teacher.section, teacher.dataset, teacher.label)
    shared = family_named(shape.family).multiples([width.layer for width in shape.widths], shape.heads)
    return replace(shape, widths=tuple(_scaled(width, size, shared.get(width.layer, 1)) for width in shape.widths))


def _scaled(width: Width, size: float, multiple: int) -> Width:
    step = math.lcm(ASSISTANT_STEP, multiple)
    asked = width.channels * size
    return Width(layer=width.layer, asked=asked, channels=max(step, round(asked / step) * step))


def _require_trained_here(teacher: Teacher, wanted: str) -> None:
    if teacher.family is None:
        raise RequestError(
            f"teaching with {wanted} needs a teacher that the study trains, but {teacher.label} has teacher.factory"
        )


def _once(teacher: Teacher, name: str, make: Callable[[], Teacher]) -> Teacher:
    if name not in teacher.derived:
        teacher.derived[name] = make()
    return teacher.derived[name]


def _fingerprint(teacher: Teacher, made_by: dict[str, object]) -> str:
    text = json.dumps({"from": teacher.fingerprint, **made_by}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _derived(teacher: Teacher, network: nn.Module, name: str, made_by: dict[str, object]) -> Teacher:
    fingerprint = _fingerprint(teacher, made_by)
    folder = cache_folder() / "teachers" / fingerprint
    write_json(
        folder / "teacher.json", {"fingerprint": fingerprint, "made_by": {"from": teacher.fingerprint, **made_by}}
    )
    return replace(teacher, network=network.eval(), fingerprint=fingerprint, folder=folder)
