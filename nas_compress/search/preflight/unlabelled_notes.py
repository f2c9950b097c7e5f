"""Notes about training samples without a label."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nas_compress.errors import RequestError
from nas_compress.losses.table import needs_teacher
from nas_compress.search.preflight.feasibility import Sized
from nas_compress.search.setup import StudyParts

LEAST_STEPS = 200
"""Steps of a teacher's training on few labels below which a line names a better number of epochs."""


def label_notes(parts: StudyParts, sized: Sequence[Sized]) -> list[str]:
    """Return lines about the number of labels if some training samples have none, and about a transfer set.

    One names epochs for a teacher of few steps.

    RequestError if no candidate learns from the teacher, because only the teacher answers such samples.
    """
    labelled, samples = parts.dataset.labelled_samples, len(parts.dataset.train)
    found, augmentation = [], parts.dataset.augmentation
    if augmentation.for_labels is not augmentation:
        found.append(
            f"the teacher answers {augmentation.count} views of {samples:,} samples, {augmentation.count * samples:,} "
            "answers, once per study; candidates without a loss on the teacher have the samples as they are"
        )
    if labelled == samples:
        return found
    taught = sum(needs_teacher(item.candidate.losses) for item in sized)
    if not taught:
        raise RequestError(
            f"samples without a label need a loss on the teacher's answers, such as kd, but no candidate of space "
            f"{parts.space.name} has one and {samples - labelled:,} of {samples:,} samples have no label; add a loss, "
            "or leave these samples out"
        )
    return [
        *found,
        f"{labelled:,} of {samples:,} training samples have a label: the teacher learns from these, and answers all; "
        f"{len(sized) - taught} of {len(sized)} draws have no loss on the teacher and learn from labels only, in as "
        "many steps",
        *_few_steps(parts, labelled),
    ]


def _few_steps(parts: StudyParts, labelled: int) -> list[str]:
    teacher = parts.spec.teacher
    in_epoch = max(1, labelled // parts.spec.training.batch_size)
    steps = teacher.epochs * in_epoch
    if not teacher.is_trained or steps >= LEAST_STEPS:
        return []
    enough = math.ceil(LEAST_STEPS / in_epoch)
    return [
        f"the teacher takes {steps} steps in {teacher.epochs} epochs of {labelled:,} samples with a label, which are "
        f"few; teacher.epochs = {enough} has {enough * in_epoch}"
    ]


def known_labels(parts: StudyParts) -> dict[str, dict[str, int]]:
    """Return the number of labels for the run's marker, if some training samples have none."""
    labelled, samples = parts.dataset.labelled_samples, len(parts.dataset.train)
    return {} if labelled == samples else {"labels": {"labelled": labelled, "samples": samples}}
