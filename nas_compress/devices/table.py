"""Table of target devices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from nas_compress.devices.onnxruntime_cpu.machine import integer_caution
from nas_compress.devices.protocol import Described, Device
from nas_compress.errors import require_known


@dataclass(frozen=True, kw_only=True)
class DeviceEntry:
    """One kind of device.

    make: opens it. integer_caution: returns a line about 8-bit kernels on a described device, or an empty string.
    """

    summary: str
    make: Callable[[], Device]
    integer_caution: Callable[[Described], str]


def _onnxruntime_cpu() -> Device:
    from nas_compress.devices.onnxruntime_cpu.device import OnnxruntimeCpu  # keeps onnxruntime out of `list`

    return OnnxruntimeCpu()


DEFAULT_DEVICE = "onnxruntime_cpu"
"""Device of runs without a device in their record."""

DEVICES: Mapping[str, DeviceEntry] = {
    DEFAULT_DEVICE: DeviceEntry(
        summary="this machine's CPU under onnxruntime: batch 1, one thread",
        make=_onnxruntime_cpu,
        integer_caution=integer_caution,
    ),
}
"""Devices by their name in study files."""


def open_device(name: str) -> Device:
    """Open the device of that name; RequestError if there is none."""
    require_known("a target device", name, DEVICES)
    return DEVICES[name].make()


def recorded_caution(machine: Described) -> str:
    """Return the line about 8-bit kernels on the device of a recorded run; empty if there is none."""
    entry = DEVICES.get(machine.get("device", DEFAULT_DEVICE))
    return entry.integer_caution(machine) if entry else ""
