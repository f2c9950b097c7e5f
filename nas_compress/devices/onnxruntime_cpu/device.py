"""The local CPU under onnxruntime as a target device."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

from nas_compress.devices.onnxruntime_cpu.integer_kernels import require_integer_kernels
from nas_compress.devices.onnxruntime_cpu.latency import LatencyMeter
from nas_compress.devices.onnxruntime_cpu.machine import describe_machine
from nas_compress.devices.protocol import NO_SIZES, Device, Latency

FLOAT_BLOCK, INTEGER_BLOCK = 16, 8
"""Channels computed at once by onnxruntime's kernels, in float and in integers."""


class OnnxruntimeCpu:
    """The CPU of this machine: one thread, batch 1, kernels of onnxruntime. meter: default settings if None."""

    def __init__(self, meter: LatencyMeter | None = None) -> None:
        self._meter = meter or LatencyMeter()
        self._machine = describe_machine()

    @property
    def name(self) -> str:
        """Name in the table of devices."""
        return "onnxruntime_cpu"

    @property
    def fingerprint(self) -> str:
        """Hash of the host, the processor and the runtime's version."""
        return self._machine.key

    @property
    def summary(self) -> str:
        """Processor, cores, runtime and system."""
        return str(self._machine)

    def describe(self) -> dict[str, Any]:
        """Return the fields of `Machine` and the name of this device."""
        return {"device": self.name, **vars(self._machine)}

    def channel_step(self, *, activation_bits: int) -> int:
        """Return 8 for integer activations, 16 for floats: the blocks of onnxruntime's kernels."""
        return INTEGER_BLOCK if activation_bits < 32 else FLOAT_BLOCK

    def check(self, path: Path, *, activation_bits: int) -> None:
        """Raise FloatKernelError if a file of 8-bit activations multiplies weights in float.

        Fewer bits are simulated with float kernels, so there is nothing to check.
        """
        if activation_bits == 8:
            require_integer_kernels(path)

    def latency(
        self, path: Path, *, sizes: Mapping[str, int] = NO_SIZES, key: str | None = None, patient: bool = False
    ) -> Latency:
        """Measure one sample of a file; see `LatencyMeter.measure`."""
        return self._meter.measure(path, sizes=sizes, key=key, patient=patient)

    @contextmanager
    def provisional(self) -> Iterator[Device]:
        """Yield a device on a copy of the latency cache, which is deleted at the end."""
        with tempfile.TemporaryDirectory(prefix="nas_compress_") as folder:
            cache = Path(folder)
            with suppress(OSError):  # none is there
                shutil.copyfile(self._meter.file, cache / self._meter.file.name)
            yield OnnxruntimeCpu(LatencyMeter(cache=cache))

    def busy(self) -> AbstractContextManager[None]:
        """Share the machine with other training processes of the same latency cache."""
        return self._meter.window.busy()

    def pause(self) -> None:
        """Wait while another process measures. The check takes about 2 microseconds."""
        self._meter.window.pause()
