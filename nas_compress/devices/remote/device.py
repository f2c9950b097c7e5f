"""A machine that is reached by a command of the user, as a target device."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import onnx

from nas_compress.config.device_section import REMOTE
from nas_compress.devices.onnx_session import read_content
from nas_compress.devices.onnxruntime_cpu.device import FLOAT_BLOCK, INTEGER_BLOCK
from nas_compress.devices.onnxruntime_cpu.kernel_check import require_integer_graph
from nas_compress.devices.protocol import NO_SIZES, Device, Latency, Sizes
from nas_compress.devices.remote.connection import Connection
from nas_compress.devices.remote.latency import RemoteMeter
from nas_compress.devices.remote.link import DEFAULT_LIMITS, Limits, Link
from nas_compress.errors import DeviceLostError
from nas_compress.values.device_settings import DeviceSettings


class RemoteDevice:
    """Another machine under onnxruntime. Nothing about the command is kept or shown.

    meter: has the connection and the settings.
    """

    def __init__(self, meter: RemoteMeter) -> None:
        self._meter = meter

    @property
    def name(self) -> str:
        """Name in the table of devices."""
        return REMOTE

    @property
    def fingerprint(self) -> str:
        """Hash of the host, the processor and the runtime there, and of the settings."""
        return self._meter.fingerprint

    @property
    def summary(self) -> str:
        """Processor, cores, runtime, system and conditions."""
        return ", ".join(filter(None, (str(self._meter.facts), self.settings.conditions)))

    @property
    def settings(self) -> DeviceSettings:
        """Conditions of latencies."""
        return self._meter.settings

    def describe(self) -> dict[str, Any]:
        """Return the processor, the system and the runtime as the agent names them."""
        facts, conditions = self._meter.facts, self.settings.conditions
        described = {
            "device": self.name,
            "cpu": facts.cpu,
            "cores": facts.cores,
            "flags": list(facts.flags),
            "system": facts.system,
            "python": facts.python,
            "onnxruntime": facts.runtime,
            "key": self.fingerprint,
        }
        return described | ({"conditions": conditions} if conditions else {})

    def channel_step(self, *, activation_bits: int) -> int:
        """Return 8 for integer activations, 16 for floats, as for onnxruntime on this machine."""
        return INTEGER_BLOCK if activation_bits < 32 else FLOAT_BLOCK

    def check(self, path: Path, *, activation_bits: int) -> None:
        """Raise FloatKernelError if the runtime there would compute a file of 8-bit activations in float."""
        if activation_bits == 8:
            require_integer_graph(self._optimised(read_content(path)), path)

    def latency(self, path: Path, *, sizes: Sizes = NO_SIZES, key: str | None = None, patient: bool = False) -> Latency:
        """Measure a file there; see `RemoteMeter.measure`. The file is sent to the device."""
        return self._meter.measure(path, sizes=sizes, key=key, patient=patient)

    @contextmanager
    def provisional(self) -> Iterator[Device]:
        """Yield a device on a copy of the latency cache, with the same connection."""
        with tempfile.TemporaryDirectory(prefix="nas_compress_") as folder:
            cache, meter = Path(folder), self._meter
            with suppress(OSError):  # none is there
                shutil.copyfile(meter.file, cache / meter.file.name)
            yield RemoteDevice(meter.with_cache(cache))

    def busy(self) -> AbstractContextManager[None]:
        """Return an empty context: computing here does not disturb a measurement there."""
        return nullcontext()

    def pause(self) -> None:
        """Do nothing; see `busy`."""

    def _optimised(self, content: bytes) -> onnx.ModelProto:
        def task(link: Link) -> bytes:
            link.give("candidate", content, {})
            return link.optimised(self.settings.providers)

        optimised = self._meter.connection.do(task)
        try:
            return onnx.load_model_from_string(optimised)
        except Exception as error:  # protobuf's own error: its package ships no types
            raise DeviceLostError("the device sent no optimised ONNX file") from error


def open_remote(settings: DeviceSettings, command: Sequence[str], *, limits: Limits = DEFAULT_LIMITS) -> RemoteDevice:
    """Make the device of a command, which is started at the first question.

    command: program and arguments, never a text for a shell. RequestError if this machine has no such program. Later,
    DeviceLostError if the device does not answer, or wrongly, and RequestError if it has too few cores.
    """
    return RemoteDevice(RemoteMeter(Connection(command, limits=limits), settings=settings))
