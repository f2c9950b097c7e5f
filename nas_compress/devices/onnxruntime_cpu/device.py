"""The local CPU under onnxruntime as a target device."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

from nas_compress.devices.onnxruntime_cpu.kernel_check import require_integer_kernels
from nas_compress.devices.onnxruntime_cpu.latency import LatencyMeter
from nas_compress.devices.onnxruntime_cpu.machine import describe_machine
from nas_compress.devices.protocol import NO_SIZES, Device, Latency, Sample, Sizes, StreamLatency
from nas_compress.values.device_settings import DeviceSettings

FLOAT_BLOCK, INTEGER_BLOCK = 16, 8
"""Channels computed at once by onnxruntime's kernels, in float and in integers."""


class OnnxruntimeCpu:
    """The machine under onnxruntime. meter: has the name and the settings; by default one sample, one thread."""

    def __init__(self, meter: LatencyMeter | None = None) -> None:
        self._meter = meter or LatencyMeter()
        self._machine = describe_machine()

    @property
    def name(self) -> str:
        """Name in the table of devices."""
        return self._meter.device

    @property
    def fingerprint(self) -> str:
        """Hash of the host, the processor, the runtime's version, and of settings other than the default."""
        return self._meter.fingerprint

    @property
    def summary(self) -> str:
        """Processor, cores, runtime, system and conditions."""
        return ", ".join(filter(None, (str(self._machine), self.settings.conditions)))

    @property
    def settings(self) -> DeviceSettings:
        """Conditions of the meter's latencies."""
        return self._meter.settings

    def describe(self) -> dict[str, Any]:
        """Return the fields of `Machine`, the name of this device and its conditions."""
        described = {"device": self.name, **vars(self._machine), "key": self.fingerprint}
        conditions = self.settings.conditions
        return described | ({"conditions": conditions} if conditions else {})

    def channel_step(self, *, activation_bits: int) -> int:
        """Return 8 for integer activations, 16 for floats: the blocks of onnxruntime's kernels."""
        return INTEGER_BLOCK if activation_bits < 32 else FLOAT_BLOCK

    def check(self, path: Path, *, activation_bits: int) -> None:
        """Raise FloatKernelError if a file of 8-bit activations multiplies weights in float.

        Fewer bits are simulated with float kernels, so there is nothing to check.
        """
        if activation_bits == 8:
            require_integer_kernels(path, self.settings)

    def latency(self, path: Path, *, sizes: Sizes = NO_SIZES, key: str | None = None, patient: bool = False) -> Latency:
        """Measure a file; see `LatencyMeter.measure`."""
        return self._meter.measure(path, sizes=sizes, key=key, patient=patient)

    def stream(self, path: Path, samples: Sequence[Sample], *, patient: bool = False) -> StreamLatency | None:
        """Measure a file on real samples; see `LatencyMeter.stream`."""
        return self._meter.stream(path, samples, patient=patient)

    @contextmanager
    def provisional(self) -> Iterator[Device]:
        """Yield a device on a copy of the latency cache, which is deleted at the end."""
        with tempfile.TemporaryDirectory(prefix="nas_compress_") as folder:
            cache = Path(folder)
            with suppress(OSError):  # none is there
                shutil.copyfile(self._meter.file, cache / self._meter.file.name)
            yield self._again(cache)

    def _again(self, cache: Path) -> Device:
        """Return the same device with its latencies in another folder."""
        meter = LatencyMeter(cache=cache, settings=self.settings, device=self.name, powercap=self._meter.powercap)
        return OnnxruntimeCpu(meter)

    def busy(self) -> AbstractContextManager[None]:
        """Share the machine with other training processes of the same latency cache."""
        return self._meter.window.busy()

    def pause(self) -> None:
        """Wait while another process measures. The check takes about 2 microseconds."""
        self._meter.window.pause()
