"""Latency of quantized front members in float32. Fewer bits do not always mean less time."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from torch import nn

from nas_compress.data.dataset import Dataset
from nas_compress.devices.protocol import Device, Latency
from nas_compress.measurement.file_latency import measure_latency
from nas_compress.measurement.pipeline import Stopwatch, calibration_samples, write_file
from nas_compress.runs.records import Record
from nas_compress.runs.speed_notes import quantized_members, speed_notes
from nas_compress.search.progress import Progress
from nas_compress.search.remeasure import amend
from nas_compress.tasks.batch import Batch, timed_sizes
from nas_compress.values.architecture import Architecture
from nas_compress.values.outcome import Outcome
from nas_compress.values.precision import Precision
from nas_compress.values.signature import Signature

TIME_LIMIT_S = 30.0
"""Limit for all members together, in seconds. The others are compared when the study runs again."""

Build = Callable[[Architecture], nn.Module]
"""Builds a network with fresh weights. Latency does not depend on the weights."""


def uncompared_members(records: Sequence[Record], members: Iterable[int | str]) -> list[Record]:
    """Return the records of quantized front members without a float32 latency."""
    return [
        record
        for record in quantized_members(records, members)
        if record.outcome.measured is not None and record.outcome.measured.float32_latency_ms is None
    ]


def compare_members(progress: Progress) -> None:
    """Time the float32 form of the front's members and report members slower than it."""
    parts = progress.parts
    compared = compare_with_float32(
        uncompared_members(progress.records, progress.members),
        build=parts.build,
        dataset=parts.dataset,
        target=parts.target,
    )
    progress.records = amend(progress.folder, progress.records, compared)
    for note, trials in speed_notes(progress.records, compared).items():
        progress.reporter.say(f"trial {', '.join(map(str, trials))}: {note}")


def compare_with_float32(
    uncompared: Sequence[Record], *, build: Build, dataset: Dataset, target: Device
) -> dict[int, Outcome]:
    """Time the float32 form of each record's architecture. Return the outcomes with the latency, by trial.

    A noisy latency is left out.
    """
    end, compared = time.monotonic() + TIME_LIMIT_S, {}
    for record in uncompared:
        architecture, measured = record.outcome.architecture, record.outcome.measured
        if architecture is None or measured is None or time.monotonic() >= end:
            continue
        data = dataset.fitting(architecture.signature)
        latency = _latency(build(architecture), data.task.signature, calibration_samples(data.train), target)
        if not latency.noisy:
            known = replace(measured, float32_latency_ms=latency.latency_ms)
            compared[record.trial] = replace(record.outcome, measured=known)
    return compared


def _latency(network: nn.Module, signature: Signature, calibration: Batch, target: Device) -> Latency:
    with tempfile.TemporaryDirectory(prefix="nas_compress_") as folder:
        path = Path(folder) / "float32.onnx"
        write_file(
            network,
            path,
            signature=signature,
            precision=Precision(),
            calibration=calibration,
            watch=Stopwatch(),
        )
        return measure_latency(path, target, sizes=timed_sizes(calibration, signature.inputs))
