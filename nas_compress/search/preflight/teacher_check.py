"""Check of the user's own teacher before anything is written."""

from __future__ import annotations

import tempfile
from pathlib import Path

from nas_compress.callbacks import Notice, no_notice
from nas_compress.errors import ExportError, RequestError
from nas_compress.measurement.own_metrics import require_sound_metrics
from nas_compress.measurement.pipeline import Stopwatch, calibration_samples
from nas_compress.search.setup import StudyParts, untrained_teacher, write_teacher
from nas_compress.teacher.finite_answers import OWN_REMEDY, require_finite_answers

CHECKED_SAMPLES = 512
"""Largest number of samples of a split on which a user's teacher is checked before anything is written."""


def check_own_teacher(parts: StudyParts, notice: Notice = no_notice) -> None:
    """Build, run and export the user's own teacher before anything is written.

    notice: receives a line about weights that were found under another key or prefix.
    RequestError is raised if it cannot be built or exported, or if answers to a part of the samples are not finite.
    """
    section = parts.spec.teacher
    if section.is_trained:
        return
    label, samples = parts.file.label, calibration_samples(parts.dataset.train)
    network = untrained_teacher(parts, notice)
    for split in (parts.dataset.train, parts.dataset.validation):
        require_finite_answers(
            network,
            split,
            parts.dataset.task,
            name=f"{label}: teacher.{section.source}",
            remedy=OWN_REMEDY,
            at_most=CHECKED_SAMPLES,
        )
    require_sound_metrics(network, parts.dataset.validation, parts.dataset.task, label=label)
    with tempfile.TemporaryDirectory(prefix="nas_compress_") as folder:
        try:
            write_teacher(
                network,
                Path(folder) / "model.onnx",
                signature=parts.dataset.task.signature,
                calibration=samples,
                watch=Stopwatch(),
            )
        except ExportError as error:
            raise RequestError(f"{label}: teacher.{section.source} must be a network for ONNX, but {error}") from error
