"""Figures of the front's files, measured again and compared with their records."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nas_compress.config.study_file import StudyFile
from nas_compress.confirm.study_of_run import study_of_run
from nas_compress.data.augment.words import KEYS as AUGMENTATION
from nas_compress.data.dataset import Dataset
from nas_compress.devices.protocol import Device
from nas_compress.devices.table import open_device
from nas_compress.errors import RequestError
from nas_compress.measurement.file_latency import measure_latency
from nas_compress.measurement.predictions import measure_metrics
from nas_compress.runs.checks.model_files import TEACHER, model_path, teacher_path
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import Record
from nas_compress.search.setup import gather
from nas_compress.search.study_data import study_dataset
from nas_compress.tasks.batch import timed_sizes, to_arrays, to_rows
from nas_compress.values.outcome import Measured

TOLERANCE = 1e-9
"""Largest difference of a metric of the same file on the same data."""

TIME_LIMIT_S = 60.0
"""Limit for all latencies together, in seconds. The metrics of all files are measured anyway."""


@dataclass(frozen=True, kw_only=True)
class MeasuredAgain:
    """One file measured again.

    name: its path in the run folder. differences: a line for each figure that differs from the record.
    latency_ratio: its latency over the recorded one, None after the time limit.
    """

    name: str
    figures: Mapping[str, float]
    differences: tuple[str, ...]
    latency_ratio: float | None


def needs_study(folder: RunFolder) -> bool:
    """Return True if the data of a run come from code or files of the user."""
    return folder.spec().data.source != "name"


def measure_files_again(
    folder: RunFolder, records: Sequence[Record], teacher: Measured | None, *, own: StudyFile | None = None
) -> list[MeasuredAgain]:
    """Measure the model files of records, and of the teacher, on the validation split.

    The metrics and the size must equal the record. Latencies depend on the machine and are only compared.
    own: the user's own study file; without it, only built-in data are loaded and no code is.
    RequestError if the data come from code and `own` is missing, DamagedFileError for another file than the measured.
    """
    dataset, target = _data_and_device(folder, records, own)
    files = [
        (model_path(folder, record), record.model, record.outcome.measured, record.outcome.candidate.vocabulary_size)
        for record in records
        if record.model
    ]
    if teacher is not None:
        files.append((teacher_path(folder), TEACHER, teacher, None))
    end = time.monotonic() + TIME_LIMIT_S
    return [
        _again(path, name, known, dataset.reading(size), target, latency=time.monotonic() < end)
        for path, name, known, size in files
        if known is not None
    ]


def _data_and_device(folder: RunFolder, records: Sequence[Record], own: StudyFile | None) -> tuple[Dataset, Device]:
    if own is not None and records:
        parts = gather(study_of_run(folder, records[0].outcome.candidate, own=own))
        return parts.dataset, parts.target
    spec = folder.spec()
    if spec.data.source != "name":
        named = spec.data.factory or spec.data.folder or spec.data.text
        raise RequestError(f"data from {named} need --study, because a run folder never supplies code or data")
    plain = spec.data.model_copy(update=dict.fromkeys(AUGMENTATION))  # of training samples only, and perhaps code
    without_code = spec.model_copy(update={"data": plain, "metrics": type(spec).model_fields["metrics"].default})
    dataset = study_dataset(StudyFile(spec=without_code, folder=folder.root, label=str(folder.marker)))
    return dataset, open_device(spec.target.name, spec.device_settings)


def _again(path: Path, name: str, known: Measured, dataset: Dataset, target: Device, *, latency: bool) -> MeasuredAgain:
    samples, task = dataset.validation, dataset.task
    figures = measure_metrics(path, task, inputs=to_rows(samples.inputs), targets=to_arrays(samples.targets))
    figures["size_bytes"] = path.stat().st_size
    differences = tuple(
        f"{name} has {metric} {value:.6g} on {dataset.name}, and its record {known.figures[metric]:.6g}"
        for metric, value in figures.items()
        if metric in known.figures and not abs(value - known.figures[metric]) <= TOLERANCE
    )
    ratio = None
    if latency:
        sizes = timed_sizes(dataset.train.inputs, task.signature.inputs)
        rates = () if known.exits is None else known.exits.rates
        latency_ms = measure_latency(path, target, sizes=sizes, rates=rates).latency_ms
        ratio = latency_ms / known.figure("latency_ms")
    return MeasuredAgain(name=name, figures=figures, differences=differences, latency_ratio=ratio)
