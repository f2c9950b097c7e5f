"""Latency, size and memory of an ONNX file without a study."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nas_compress.config.study_file import read_study
from nas_compress.devices.named import open_one
from nas_compress.devices.onnx_session import file_signature
from nas_compress.devices.protocol import Device
from nas_compress.devices.table import DEFAULT_DEVICE, DEVICES, open_device
from nas_compress.errors import DeviceLostError, RequestError, nearest
from nas_compress.measurement.file_latency import ExitLatency, measure_latency
from nas_compress.measurement.memory.figures import memory_figures
from nas_compress.values.device_settings import MEMORY_METRICS

STUDY = Path("study.toml")
"""File of the working folder that names further devices."""


def measure_alone(model: Path, device: str = DEFAULT_DEVICE) -> dict[str, object]:
    """Measure the latency, the size and the memory of a file of fixed sample sizes, on random samples.

    With early exits, latency_ms is the mean over the exits, and `exit_latency_ms` has one entry per exit, the end last.
    A file whose memory cannot be computed has the reason in `memory` instead.

    device: a kind that needs no table, such as `openvino`, or a device of the study.toml in the working folder. Nothing
    else of that file is used.
    RequestError if there is no such device or the file cannot be timed, DeviceLostError if the device is out of reach.
    """
    free = [
        f"{spec.name}: {size}"
        for spec in file_signature(model).inputs
        for size in spec.sample_shape
        if not isinstance(size, int)
    ]
    if free:
        rule = "a file must have fixed sizes of samples to be measured without data"
        raise RequestError(f"{rule}, but {model} has the free sizes {', '.join(free)}; add --study")
    used = _device_alone(device)
    try:
        latency = measure_latency(model, used, sizes={})
        described = used.summary
    except DeviceLostError as error:
        raise DeviceLostError(f"device {device}: {error}") from error
    exits = {"exit_latency_ms": latency.exits_ms} if isinstance(latency, ExitLatency) else {}
    return {
        "model": str(model),
        "device": device,
        **latency.figures(used.settings),
        "latency_spread": latency.spread,
        "latency_noisy": latency.noisy,
        "size_bytes": model.stat().st_size,
        **exits,
        **_memory(model, used),
        "machine": described,
    }


def _device_alone(name: str) -> Device:
    """Open a device by its kind, or by its table in the study of the working folder."""
    kinds = [kind for kind, entry in DEVICES.items() if entry.make is not None]
    if name in kinds:
        return open_device(name)
    file = read_study(STUDY) if STUDY.is_file() else None
    if file is not None and name in file.spec.devices:
        return open_one(file.spec, name, label=file.label)
    known = [*kinds, *([] if file is None else file.spec.devices)]
    raise RequestError(
        f"a device without --study must be {', '.join(kinds)}, or have a table [device.NAME] in {STUDY} of the working "
        f"folder, but got {name!r}{nearest(name, known)}; --study STUDY reads the tables of another study"
    )


def _memory(model: Path, device: Device) -> dict[str, object]:
    try:
        return dict(memory_figures(model, replace(device.settings, memory=MEMORY_METRICS), sizes={}))
    except RequestError as error:
        return {"memory": str(error)}
