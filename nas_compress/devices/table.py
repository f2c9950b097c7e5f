"""Table of target devices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from nas_compress.config.device_section import REMOTE
from nas_compress.devices.onnxruntime_cpu.machine import integer_caution
from nas_compress.devices.protocol import Described, Device
from nas_compress.errors import RequestError, refusal, require_known
from nas_compress.values.device_settings import DEFAULT_SETTINGS, DeviceSettings


@dataclass(frozen=True, kw_only=True)
class DeviceEntry:
    """One kind of device.

    make: opens it with settings; RequestError for settings that it does not have.
    make_by_command: opens a remote one with settings and the command that starts its agent; such a kind has no `make`.
    integer_caution: returns a line about 8-bit kernels on a described device, or an empty string.
    """

    summary: str
    make: Callable[[DeviceSettings], Device] | None
    integer_caution: Callable[[Described], str]
    make_by_command: Callable[[DeviceSettings, tuple[str, ...]], Device] | None = None


def _onnxruntime_cpu(settings: DeviceSettings) -> Device:
    from nas_compress.devices.onnxruntime_cpu.device import OnnxruntimeCpu  # keeps onnxruntime out of `list`
    from nas_compress.devices.onnxruntime_cpu.latency import LatencyMeter

    return OnnxruntimeCpu(LatencyMeter(settings=settings))


def _openvino(settings: DeviceSettings) -> Device:
    from nas_compress.devices.openvino.device import OpenVinoCpu

    return OpenVinoCpu(settings)


def _remote(settings: DeviceSettings, command: tuple[str, ...]) -> Device:
    from nas_compress.devices.remote.device import open_remote

    return open_remote(settings, command)


DEFAULT_DEVICE = "onnxruntime_cpu"
"""Device of runs without a device in their record."""

DEVICES: Mapping[str, DeviceEntry] = {
    DEFAULT_DEVICE: DeviceEntry(
        summary="this machine's CPU under onnxruntime: batch 1, one thread, or as in [target]",
        make=_onnxruntime_cpu,
        integer_caution=integer_caution,
    ),
    "openvino": DeviceEntry(
        summary="this machine's CPU under OpenVINO; needs the extra [openvino]",
        make=_openvino,
        integer_caution=integer_caution,
    ),
    REMOTE: DeviceEntry(
        summary="another machine under onnxruntime, reached by the command of a table [device.NAME], such as ssh",
        make=None,
        make_by_command=_remote,
        integer_caution=integer_caution,
    ),
}
"""Devices by their name in study files."""


def open_device(
    name: str, settings: DeviceSettings = DEFAULT_SETTINGS, where: str = "", *, command: Sequence[str] = ()
) -> Device:
    """Open the device of that kind; RequestError if there is none, or if it does not have the settings.

    where: file and key for the message. command: starts the agent of a kind that has one.
    """
    require_known("a target device", name, DEVICES, where)
    entry = DEVICES[name]
    try:
        if entry.make_by_command is not None:
            if not command:
                raise RequestError(f"a device of kind {name} must have a command, but got none")
            return entry.make_by_command(settings, tuple(command))
        if command or entry.make is None:
            raise RequestError(f"a command must start the agent of a remote device, but the kind is {name}")
        return entry.make(settings)
    except RequestError as error:
        raise refusal(str(error), where) from error


def recorded_caution(machine: Described) -> str:
    """Return the line about 8-bit kernels on the device of a recorded run; empty if there is none."""
    entry = DEVICES.get(machine.get("device", DEFAULT_DEVICE))
    return entry.integer_caution(machine) if entry else ""
