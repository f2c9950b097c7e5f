"""Open ONNX files in OpenVINO, with their constants folded first.

OpenVINO 2026.4 does not fold the bit shifts that unpack weights of few bits: it unpacks them at each run, and linear
layers on such weights give wrong answers (an MLP with 4-bit weights agreed with onnxruntime on 72 % of samples). So
onnxruntime folds the constants, by optimisations that leave standard operators only.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from nas_compress.devices.onnx_session import ERRORS_ONLY, read_content
from nas_compress.errors import RequestError, first_line
from nas_compress.optional_imports import optional_package
from nas_compress.values.device_settings import CPU_PROVIDER, DEFAULT_SETTINGS, DeviceSettings

Array = NDArray[Any]


def openvino() -> Any:
    """Return the package; RequestError with the way to install it."""
    return optional_package("openvino", needed_for="the device openvino", extra="openvino")


@cache
def core() -> Any:
    """Return OpenVINO's core. Each process has one."""
    return openvino().Core()


def folded(content: bytes) -> bytes:
    """Return a model whose constants are computed, such as weights from packed bytes; its operators stay standard."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = ERRORS_ONLY
    with tempfile.TemporaryDirectory(prefix="nas_compress_") as folder:
        path = Path(folder) / "folded.onnx"
        options.optimized_model_filepath = str(path)
        ort.InferenceSession(content, options, providers=[CPU_PROVIDER])
        return path.read_bytes()


class CompiledModel:
    """A file compiled for this CPU in 32-bit floats and the integers of the file.

    shapes: fixed shape of each input, by name; without them the free dimensions stay free. RequestError if the file
    cannot be compiled.
    """

    def __init__(
        self,
        content: bytes,
        *,
        settings: DeviceSettings = DEFAULT_SETTINGS,
        shapes: Mapping[str, Sequence[int]] | None = None,
        name: str = "the model",
    ) -> None:
        package = openvino()
        try:
            model = core().read_model(folded(content))
            if shapes is not None:
                model.reshape({given: list(shape) for given, shape in shapes.items()})
            self._compiled = core().compile_model(model, "CPU", _options(settings))
        except Exception as error:  # the runtimes' exceptions have no common root
            rule = "a model file must compile in OpenVINO"
            raise RequestError(f"{rule}, but got {name}: {first_line(error)}") from error
        self._tensor = package.Tensor
        self._request = self._compiled.create_infer_request()
        self.output_names = [_name(port) for port in self._compiled.outputs]

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return the outputs of one batch by name."""
        found = self._request.infer(dict(inputs))
        return {name: np.array(found[place]) for place, name in enumerate(self.output_names)}

    def bound(self, inputs: Mapping[str, Array]) -> Callable[[], object]:
        """Return a call that runs one batch again and again, without copies."""
        for name, values in inputs.items():
            self._request.set_tensor(name, self._tensor(np.ascontiguousarray(values), shared_memory=True))
        return lambda: self._request.infer(share_outputs=True)

    def operations(self) -> list[dict[str, str]]:
        """Return the executed nodes: `layerType`, `runtimePrecision`, `primitiveType` and `originalLayersNames`."""
        keys = ("layerType", "runtimePrecision", "primitiveType", "originalLayersNames")
        nodes = [node.get_rt_info() for node in self._compiled.get_runtime_model().get_ordered_ops()]
        return [{key: node[key].astype(str) if key in node else "" for key in keys} for node in nodes]


class FileAnswers:
    """Answers of a file under OpenVINO, from a batch of inputs to the outputs, by name.

    It is compiled for the shapes of each batch: with free dimensions, OpenVINO 2026.4 answered wrongly for small
    transformers of 8-bit activations, which fixed shapes compute as onnxruntime does.
    path: compressed if the name ends in `.xz`.
    """

    def __init__(self, path: Path, *, settings: DeviceSettings = DEFAULT_SETTINGS) -> None:
        self._content, self._name, self._settings = read_content(path), str(path), settings
        self._compiled: dict[tuple[tuple[str, tuple[int, ...]], ...], CompiledModel] = {}

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return the outputs of one batch. RequestError if the file cannot be compiled for its shapes."""
        shapes = tuple((name, values.shape) for name, values in inputs.items())
        if shapes not in self._compiled:
            self._compiled[shapes] = CompiledModel(
                self._content, settings=self._settings, shapes=dict(shapes), name=self._name
            )
        return self._compiled[shapes].run(inputs)


def _options(settings: DeviceSettings) -> dict[str, object]:
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": settings.threads,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "f32",  # else processors with bfloat16 compute in it
        "ENABLE_CPU_PINNING": False,  # pinning would move the thread that also times the reference net
    }


def _name(port: Any) -> str:
    return str(port.get_any_name())
