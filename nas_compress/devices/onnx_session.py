"""Open ONNX models in onnxruntime, by default with one thread and all optimisations."""

from __future__ import annotations

import lzma
from collections.abc import Sequence
from pathlib import Path

import onnx
import onnxruntime as ort
from onnx.external_data_helper import uses_external_data

from nas_compress.errors import RequestError, first_line
from nas_compress.values.device_settings import DEFAULT_SETTINGS, DeviceSettings
from nas_compress.values.file_contract import COMPRESSED
from nas_compress.values.signature import Signature, TensorSpec

ERRORS_ONLY = 3

NUMPY_TYPES = {f"tensor({kind})": kind for kind in ("uint8", "int8", "int16", "int32", "int64", "float16", "bool")} | {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
}
"""NumPy name of each onnxruntime type."""


def open_session(
    path: Path,
    *,
    signature: Signature | None = None,
    optimised_path: Path | None = None,
    optimised: bool = True,
    settings: DeviceSettings = DEFAULT_SETTINGS,
) -> ort.InferenceSession:
    """Open a file; RequestError unless it is a single ONNX model that onnxruntime loads.

    signature: required names of inputs and outputs, in order. optimised_path: receives the graph after the runtime's
    optimisations. optimised: if False, the graph runs as it is stored: quantized layers compute in float between their
    roundings, and no integer kernel runs. settings: its threads and providers are used.
    """
    content = read_content(path)
    _parse(content, path)
    try:
        session = start_session(content, optimised_path=optimised_path, optimised=optimised, settings=settings)
    except Exception as error:  # the runtime's exceptions have no common root
        raise RequestError(f"a model file must load in onnxruntime, but got {path}: {first_line(error)}") from error
    if signature is not None:
        _require_names("inputs", signature.input_names, [value.name for value in session.get_inputs()], path)
        _require_names("outputs", signature.output_names, [value.name for value in session.get_outputs()], path)
    return session


def start_session(
    model: bytes | str,
    *,
    optimised_path: Path | None = None,
    optimised: bool = True,
    settings: DeviceSettings = DEFAULT_SETTINGS,
) -> ort.InferenceSession:
    """Open a model's bytes or path without checks. The runtime's own exceptions pass through."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = settings.threads, 1
    if settings.threads > 1:  # else idle threads of one session slow down another
        options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = ERRORS_ONLY
    if not optimised:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if optimised_path is not None:
        options.optimized_model_filepath = str(optimised_path)
    return ort.InferenceSession(model, options, providers=list(settings.providers))


def read_model(path: Path) -> onnx.ModelProto:
    """Read a file; RequestError if it is missing, no ONNX model, or keeps its weights in another file."""
    return _parse(read_content(path), path)


def file_signature(path: Path) -> Signature:
    """Return the inputs and outputs described in a file's graph."""
    graph = read_model(path).graph
    return Signature(inputs=tuple(map(_spec, graph.input)), outputs=tuple(map(_spec, graph.output)))


def read_content(path: Path) -> bytes:
    """Read the ONNX model's bytes, decompressed if the name ends in `.xz`; RequestError if that fails."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise RequestError(f"a model file must be readable, but got {path}: {error.strerror}") from error
    try:
        return lzma.decompress(content) if Path(path).suffix == COMPRESSED else content
    except lzma.LZMAError as error:
        raise RequestError(f"a compressed model file must be whole, but got {path}: {error}") from error


def _parse(content: bytes, path: Path) -> onnx.ModelProto:
    try:
        model = onnx.load_model_from_string(content)
    except Exception:  # protobuf's own error: its package ships no types
        model = onnx.ModelProto()
    if not model.graph.node:
        raise RequestError(f"a model file must be an ONNX model, but got {path} ({len(content)} bytes)")
    if any(uses_external_data(tensor) for tensor in model.graph.initializer):
        raise RequestError(f"a model file must hold its own weights, but got {path} with external data")
    return model


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    kind = value.type.tensor_type
    return TensorSpec(
        name=value.name,
        dtype=str(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)),
        shape=tuple(size.dim_param or size.dim_value for size in kind.shape.dim),
    )


def _require_names(kind: str, expected: Sequence[str], found: Sequence[str], path: Path) -> None:
    if list(found) != list(expected):
        wanted, names = ", ".join(expected), ", ".join(found)
        raise RequestError(f"a model file must have {kind} {wanted}, but got {path} with {names}")
