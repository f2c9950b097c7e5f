"""Figures of the front's files, measured again and compared with their records."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nas_compress.callbacks import Notice
from nas_compress.config.schema import StudySpec
from nas_compress.config.study_file import StudyFile
from nas_compress.confirm.study_of_run import study_of_run
from nas_compress.data.augment.description import KEYS as AUGMENTATION
from nas_compress.data.dataset import Dataset
from nas_compress.devices.named import needs_command, open_one
from nas_compress.devices.onnx_session import file_signature, open_session
from nas_compress.devices.protocol import Device, Sample
from nas_compress.devices.table import open_device
from nas_compress.errors import ExportError, RequestError, TrialError
from nas_compress.measurement.file_latency import measure_latency, stream_of
from nas_compress.measurement.named_devices import NamedDevices
from nas_compress.measurement.pipeline import agreements_elsewhere
from nas_compress.measurement.predictions import measure_metrics
from nas_compress.runs.checks.model_files import TEACHER, model_path, teacher_path
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import Record
from nas_compress.search.setup import gather
from nas_compress.search.study_data import study_dataset
from nas_compress.tasks.batch import timed_sizes, to_arrays, to_device, to_rows
from nas_compress.values.metrics.named_device_rows import on_device
from nas_compress.values.outcome import Measured
from nas_compress.values.text.measured_lengths import SampleSizes

_log = logging.getLogger(__name__)

TOLERANCE = 1e-9
"""Largest difference of a metric of the same file on the same data."""

TIME_LIMIT_S = 60.0
"""Limit for all latencies together, in seconds. The metrics of all files are measured anyway."""


@dataclass(frozen=True, kw_only=True)
class MeasuredAgain:
    """One file measured again.

    name: its path in the run folder. differences: a line for each figure that differs from the record, and for each
    device whose answers differ from those of onnxruntime.
    latency_ratio: its latency over the recorded one, None after the time limit.
    device_ratios: the same by named device of the study, without those that were not asked or did not answer.
    device_agreements: fraction of samples with the answer of onnxruntime, by device of another runtime.
    """

    name: str
    figures: Mapping[str, float]
    differences: tuple[str, ...]
    latency_ratio: float | None
    device_ratios: Mapping[str, float]
    device_agreements: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class _Means:
    """The data and the devices that files are measured with."""

    dataset: Dataset
    target: Device
    named: NamedDevices


def needs_study(folder: RunFolder) -> bool:
    """Return True if the data of a run come from code or files of the user."""
    return folder.spec().data.source != "name"


def measure_files_again(
    folder: RunFolder,
    records: Sequence[Record],
    teacher: Measured | None,
    *,
    own: StudyFile | None = None,
    notice: Notice = _log.warning,
) -> list[MeasuredAgain]:
    """Measure the model files of records, and of the teacher, on the validation split.

    The metrics and the size must equal the record. Latencies depend on the machine and are only compared.
    own: the user's own study file; without it, only built-in data are loaded and no code is, and remote devices are not
    asked, because the run folder does not have their commands. notice: gets a line for each device that is not asked.
    RequestError if the data come from code and `own` is missing, DamagedFileError for another file than the measured.
    """
    means = _means(folder, records, own, notice)
    files = [(model_path(folder, record), record.model, record.outcome.measured) for record in records if record.model]
    if teacher is not None:
        files.append((teacher_path(folder), TEACHER, teacher))
    end = time.monotonic() + TIME_LIMIT_S
    return [
        _again(path, name, known, means, latency=time.monotonic() < end)
        for path, name, known in files
        if known is not None
    ]


def _means(folder: RunFolder, records: Sequence[Record], own: StudyFile | None, notice: Notice) -> _Means:
    if own is not None and records:
        parts = gather(study_of_run(folder, records[0].outcome.candidate, own=own))
        named = _opened(parts.spec, parts.file.label, notice)
        return _Means(dataset=parts.dataset, target=parts.target, named=named)
    spec = folder.spec()
    if spec.data.source != "name":
        source = spec.data.factory or spec.data.folder or spec.data.text
        raise RequestError(f"data from {source} need --study, because a run folder never supplies code or data")
    plain = spec.data.model_copy(update=dict.fromkeys((*AUGMENTATION, "preprocess")))  # of networks, and perhaps code
    without_code = spec.model_copy(update={"data": plain, "metrics": type(spec).model_fields["metrics"].default})
    dataset = study_dataset(StudyFile(spec=without_code, folder=folder.root, label=str(folder.marker)))
    target = open_device(spec.target.name, spec.device_settings)
    return _Means(dataset=dataset, target=target, named=_opened(spec, str(folder.marker), notice))


def _opened(spec: StudySpec, label: str, notice: Notice) -> NamedDevices:
    """Open the named devices that can be opened here, with a line for each other one."""
    opened = {}
    for name in spec.devices:
        if needs_command(spec, name):
            notice(f"device {name} is not measured again: its command is in the study only; add --study")
            continue
        try:
            opened[name] = open_one(spec, name, label=label)
        except RequestError as error:
            notice(f"device {name} is not measured again: {error}")
    return NamedDevices(opened, notice=notice)


def _again(path: Path, name: str, known: Measured, means: _Means, *, latency: bool) -> MeasuredAgain:
    dataset, named = means.dataset.fitting(file_signature(path)), means.named
    samples, task = dataset.validation, dataset.task
    figures = measure_metrics(path, task, inputs=to_rows(samples.inputs), targets=to_arrays(samples.targets))
    figures["size_bytes"] = path.stat().st_size
    differences = [
        f"{name} has {metric} {value:.6g} on {dataset.name}, and its record {known.figures[metric]:.6g}"
        for metric, value in figures.items()
        if metric in known.figures and not abs(value - known.figures[metric]) <= TOLERANCE
    ]
    agreements, devices = dict[str, float](), {means.target.name: means.target, **named.devices}
    ratio, ratios, sizes = None, dict[str, float](), timed_sizes(dataset.train.inputs, task.signature.inputs)
    inputs = to_device(samples.inputs, "cpu")
    streamed = stream_of(inputs, samples.tokens) if known.exits is not None else ()
    try:
        session = open_session(path, signature=task.signature)
        agreements = agreements_elsewhere(path, inputs, task, devices=devices, session=session)
        if latency:
            ratios = _device_ratios(path, known, named, sizes=sizes, samples=streamed)
    except (ExportError, TrialError) as error:
        differences.append(f"{name}: {error}")
    if latency:
        rates = () if known.exits is None else known.exits.rates
        latency_ms = measure_latency(path, means.target, sizes=sizes, rates=rates, samples=streamed).latency_ms
        ratio = latency_ms / known.figure("latency_ms")
    return MeasuredAgain(
        name=name,
        figures=figures,
        differences=tuple(differences),
        latency_ratio=ratio,
        device_ratios=ratios,
        device_agreements=agreements,
    )


def _device_ratios(
    path: Path, known: Measured, named: NamedDevices, *, sizes: SampleSizes, samples: Sequence[Sample]
) -> dict[str, float]:
    """Return each latency on a named device over the recorded one; a device without an answer or a record has none."""
    found = {}
    for device in named.devices:
        name = on_device("latency_ms", device)
        timed = (
            known
            if known.lacks(name)
            else named.timed(known, path, sizes=sizes, samples=samples, patient=True, only=[device])
        )
        if timed is not known:
            found[device] = timed.figure(name) / known.figure(name)
    return found
