"""The local CPU under OpenVINO as a device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from nas_compress.devices.onnx_session import read_content, start_session
from nas_compress.devices.onnxruntime_cpu.device import OnnxruntimeCpu
from nas_compress.devices.onnxruntime_cpu.latency import LatencyMeter
from nas_compress.devices.onnxruntime_cpu.timed_session import Array, random_batch
from nas_compress.devices.openvino.compiled import CompiledModel, FileAnswers, openvino
from nas_compress.devices.openvino.kernel_check import require_integer_kernels
from nas_compress.errors import RequestError, first_line
from nas_compress.values.device_settings import CPU_PROVIDER, DEFAULT_SETTINGS, DeviceSettings

NAME = "openvino"

FLOAT_BLOCK, INTEGER_BLOCK = 8, 8
"""Channels computed at once by OpenVINO's kernels on AVX2, by `benchmarks/runtimes.py`."""


class OpenVinoCpu(OnnxruntimeCpu):
    """The machine under OpenVINO, timed between the blocks of the same reference net as under onnxruntime.

    settings: threads, batch and percentile. cache: folder of the latencies, by default as for onnxruntime.
    RequestError if the package is missing, or for execution providers of onnxruntime.
    """

    def __init__(self, settings: DeviceSettings = DEFAULT_SETTINGS, *, cache: Path | None = None) -> None:
        if settings.providers != (CPU_PROVIDER,):
            raise RequestError(f"providers belong to onnxruntime, but got {list(settings.providers)} for {NAME}")
        openvino()
        version = metadata.version("openvino")
        super().__init__(LatencyMeter(settings=settings, device=NAME, runtime=version, open_net=_opened, cache=cache))
        self._version = version

    @property
    def summary(self) -> str:
        """Processor, cores, runtimes, system and conditions."""
        return f"OpenVINO {self._version} on {super().summary}"

    def describe(self) -> dict[str, Any]:
        """Return the fields of the machine, and the version of OpenVINO."""
        return {**super().describe(), "openvino": self._version}

    def channel_step(self, *, activation_bits: int) -> int:
        """Return the blocks of OpenVINO's kernels."""
        return INTEGER_BLOCK if activation_bits < 32 else FLOAT_BLOCK

    def check(self, path: Path, *, activation_bits: int) -> None:
        """Raise FloatKernelError if a file of 8-bit activations multiplies weights in float."""
        if activation_bits == 8:
            require_integer_kernels(path)

    def answers(self, path: Path) -> Callable[[Mapping[str, Array]], dict[str, Array]]:
        """Return the function of a file under OpenVINO, from a batch of inputs to the outputs, by name."""
        return FileAnswers(path, settings=self.settings)

    def _again(self, cache: Path) -> OpenVinoCpu:
        return OpenVinoCpu(self.settings, cache=cache)


def _opened(source: Path | bytes, settings: DeviceSettings, sizes: Mapping[str, int]) -> Callable[[], object]:
    """Compile a file for the shapes of one batch, and return the call that runs it."""
    content, name = (source, "a net") if isinstance(source, bytes) else (read_content(source), str(source))
    try:
        session = start_session(content)
    except Exception as error:  # the runtime's exceptions share no narrower root
        raise RequestError(f"the model must load in onnxruntime, but got {name}: {first_line(error)}") from error
    batch = random_batch(session, settings.batch, sizes, name)
    shapes = {given: values.shape for given, values in batch.items()}
    compiled = CompiledModel(content, settings=settings, shapes=shapes, name=name)
    return compiled.bound(batch)
