"""An ONNX model opened the one way in which everything here runs it: one thread, all optimisations."""

from __future__ import annotations

import lzma
from pathlib import Path

import onnx
import onnxruntime as ort
from onnx.external_data_helper import uses_external_data

from nas_compress.errors import RequestError, first_line
from nas_compress.values.model_file import COMPRESSED, INPUT_NAME, OUTPUT_NAME

ERRORS_ONLY = 3
PROVIDERS = ["CPUExecutionProvider"]


def open_session(path: Path, *, optimised_path: Path | None = None) -> ort.InferenceSession:
    """A session with one thread; `optimised_path` receives the graph that the runtime made of the file.

    RequestError unless the file is a single ONNX model that loads, with input `input` and output `logits`.
    """
    content = read_content(path)
    _parse(content, path)
    try:
        session = start_session(content, optimised_path=optimised_path)
    except Exception as error:  # the runtime's exceptions have no common root
        raise RequestError(f"a model file must load in onnxruntime, but got {path}: {first_line(error)}") from error
    _require_names(session, path)
    return session


def start_session(model: bytes | str, *, optimised_path: Path | None = None) -> ort.InferenceSession:
    """A session of a model's bytes or path, whatever its ends are called; raises what the runtime raises."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    if optimised_path is not None:
        options.optimized_model_filepath = str(optimised_path)
    return ort.InferenceSession(model, options, providers=PROVIDERS)


def read_model(path: Path) -> onnx.ModelProto:
    """The file's content; RequestError where it is missing, no ONNX model or keeps data elsewhere."""
    return _parse(read_content(path), path)


def read_content(path: Path) -> bytes:
    """The ONNX model's bytes, out of its container where the name ends in `.xz`; RequestError where that cannot be."""
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
    except Exception:  # protobuf's own error, whose package ships no types
        model = onnx.ModelProto()
    if not model.graph.node:
        raise RequestError(f"a model file must be an ONNX model, but got {path} ({len(content)} bytes)")
    if any(uses_external_data(tensor) for tensor in model.graph.initializer):
        raise RequestError(f"a model file must hold its own weights, but got {path} with external data")
    return model


def _require_names(session: ort.InferenceSession, path: Path) -> None:
    for kind, expected, found in (
        ("input", INPUT_NAME, [value.name for value in session.get_inputs()]),
        ("output", OUTPUT_NAME, [value.name for value in session.get_outputs()]),
    ):
        if found != [expected]:
            names = ", ".join(found)
            raise RequestError(f"a model file must have one {kind} named {expected!r}, but got {path} with {names}")
