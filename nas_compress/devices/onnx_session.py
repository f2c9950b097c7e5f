"""Open ONNX models in onnxruntime, by default with one thread and all optimisations.

A model is one file. A file is refused if any of its tensors, at any depth, has its bytes in another file.
"""

from __future__ import annotations

import lzma
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from nas_compress.devices.onnx_traversal import flat_graph, lies_outside, tensors
from nas_compress.errors import RequestError, first_line
from nas_compress.files import require_regular
from nas_compress.values.audio.log_mel import LogMel
from nas_compress.values.device_settings import DEFAULT_SETTINGS, DeviceSettings
from nas_compress.values.exits.settings import EXIT
from nas_compress.values.file_constants import COMPRESSED
from nas_compress.values.signature import BATCH, DTYPES, Signature, TensorSpec
from nas_compress.values.text.hashed_words import HashedWords
from nas_compress.values.text.word_pieces import WordPieces

ERRORS_ONLY = 3

MODEL_LIMIT = 2**31 - 1
"""Largest model in bytes, before and after decompression: the limit of protobuf messages."""

CHUNK = 2**20

NUMPY_TYPES = {f"tensor({kind})": kind for kind in ("uint8", "int8", "int16", "int32", "int64", "float16", "bool")} | {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
}
"""NumPy name of each onnxruntime type."""


RANGES_AT_RUN_TIME = frozenset({"DynamicQuantizeLinear", "DynamicQuantizeLSTM", "DynamicQuantizeMatMul"})
"""Operators that round in the range of a whole batch, so that an answer depends on the other samples."""


class FileSession(ort.InferenceSession):  # type: ignore[misc]  # onnxruntime ships no types
    """An open file. one_by_one: answers depend on the batch, so samples are measured one at a time."""

    one_by_one: bool = False


def open_session(
    path: Path,
    *,
    signature: Signature | None = None,
    optimised_path: Path | None = None,
    optimised: bool = True,
    integer_kernels: bool = True,
    settings: DeviceSettings = DEFAULT_SETTINGS,
) -> FileSession:
    """Open a file; RequestError unless it is a single ONNX model that onnxruntime loads.

    signature: required names of inputs and outputs, in order; a file with early exits has the output `exit` as well.
    optimised_path: receives the graph after the runtime's
    optimisations. optimised: if False, the graph runs as it is stored: quantized layers compute in float between their
    roundings, and no integer kernel runs. integer_kernels: if False, no integer kernel runs either, but biases are
    rounded as these kernels do. settings: its threads and providers are used.
    """
    content, model = _read(path)
    try:
        session = start_session(
            content,
            optimised_path=optimised_path,
            optimised=optimised,
            integer_kernels=integer_kernels,
            settings=settings,
        )
    except Exception as error:  # the runtime's exceptions have no common root
        raise RequestError(f"a model file must load in onnxruntime, but got {path}: {first_line(error)}") from error
    session.one_by_one = not RANGES_AT_RUN_TIME.isdisjoint(node.op_type for node in flat_graph(model).nodes)
    for value in (*session.get_inputs(), *session.get_outputs()):
        if value.type not in NUMPY_TYPES:
            raise RequestError(f"inputs and outputs must be tensors of numbers, but got {path} with {value.type}")
    if signature is not None:
        _require_names("inputs", signature.input_names, [value.name for value in session.get_inputs()], path)
        outputs = [value.name for value in session.get_outputs() if value.name != EXIT]
        _require_names("outputs", [name for name in signature.output_names if name != EXIT], outputs, path)
        require_same_pieces(model, signature, path)
    return session


def require_same_pieces(model: onnx.ModelProto, signature: Signature, path: Path) -> None:
    """Raise RequestError if a file has another vocabulary than the signature: its ids would be those of other texts."""
    stored = {entry.key: entry.value for entry in model.metadata_props}.get("word_pieces")
    for spec in signature.inputs:
        if stored is not None and spec.pieces is not None and stored != spec.pieces.metadata()["word_pieces"]:
            rule = "a model file must have the word pieces of the data"
            raise RequestError(
                f"{rule}, but got {path} with others; use the training texts and vocabulary it was made with"
            )


def start_session(
    model: bytes | str,
    *,
    optimised_path: Path | None = None,
    optimised: bool = True,
    integer_kernels: bool = True,
    settings: DeviceSettings = DEFAULT_SETTINGS,
) -> FileSession:
    """Open a model's bytes or path without checks; see `open_session`. The runtime's own exceptions pass through."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = settings.threads, 1
    if settings.threads > 1:  # else idle threads of one session slow down another
        options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = ERRORS_ONLY
    if not integer_kernels:  # the next level fuses integer kernels; this one rounds biases
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    if not optimised:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if optimised_path is not None:
        options.optimized_model_filepath = str(optimised_path)
    return FileSession(model, options, providers=list(settings.providers))


def read_model(path: Path) -> onnx.ModelProto:
    """Read a file; RequestError if it is missing, too large, no ONNX model, or keeps weights in another file."""
    return _read(path)[1]


def read_content(path: Path) -> bytes:
    """Read the bytes of an ONNX model, decompressed if the name ends in `.xz`; RequestError as for `read_model`."""
    return _read(path)[0]


def file_signature(path: Path) -> Signature:
    """Return the inputs and outputs described in a file's graph; RequestError if they are no tensors of numbers.

    Optional inputs are left out. A first dimension counts as the batch if it is free under any name or none, or 1.
    """
    model = read_model(path)
    graph, metadata = model.graph, {entry.key: entry.value for entry in model.metadata_props}
    stored = {tensor.name for tensor in graph.initializer}
    try:
        return Signature(
            inputs=tuple(_with_metadata(_spec(value), metadata) for value in graph.input if value.name not in stored),
            outputs=tuple(_spec(value) for value in graph.output),
        )
    except RequestError as error:
        raise RequestError(f"{error} ({path})") from error


def _read(path: Path) -> tuple[bytes, onnx.ModelProto]:
    path = Path(path)
    try:
        require_regular(path)
        _require_size(path.stat().st_size, path)
        content = _decompressed(path) if path.suffix == COMPRESSED else path.read_bytes()
    except OSError as error:
        raise RequestError(f"a model file must be readable, but got {path}: {error.strerror}") from error
    try:
        model = onnx.load_model_from_string(content)  # never reads another file
    except Exception:  # protobuf's own error: its package ships no types
        model = onnx.ModelProto()
    if not model.graph.node:
        raise RequestError(f"a model file must be an ONNX model, but got {path} ({len(content)} bytes)")
    if any(map(lies_outside, tensors(model))):
        raise RequestError(f"a model file must hold its own weights, but got {path} with external data")
    return content, model


def _decompressed(path: Path) -> bytes:
    """Decompress a file. A first pass in chunks finds its size, so that a file over the limit takes no memory."""
    size = 0
    try:
        with lzma.open(path) as file:
            while chunk := file.read(CHUNK):
                size += len(chunk)
                _require_size(size, path)
            file.seek(0)
            return file.read()
    except (lzma.LZMAError, EOFError, MemoryError) as error:
        raise RequestError(f"a compressed model file must be whole, but got {path}: {first_line(error)}") from error


def _require_size(size: int, path: Path) -> None:
    if size > MODEL_LIMIT:
        raise RequestError(f"a model must have at most {MODEL_LIMIT} bytes, also after decompression, but got {path}")


def _with_metadata(spec: TensorSpec, metadata: Mapping[str, str]) -> TensorSpec:
    """Return the specification with the word pieces or settings in a file, if it has them.

    RequestError if they are broken.
    """
    if spec.dtype == "int16" and "log_mel" in metadata:
        return replace(spec, log_mel=LogMel.from_metadata(metadata))
    if spec.dtype == "uint8" and "hashed_words" in metadata:
        return replace(spec, values=256, words=HashedWords.from_metadata(metadata))
    if spec.dtype != "int32" or "word_pieces" not in metadata:
        return spec
    try:
        pieces = WordPieces.from_metadata(metadata)
    except (KeyError, ValueError) as error:
        raise RequestError(f"a vocabulary in a file must have pieces and a length, but got {error!r}") from error
    return replace(spec, values=len(pieces.pieces), pieces=pieces)


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    kind = value.type.tensor_type
    dtypes: dict[int, str] = {onnx.helper.np_dtype_to_tensor_dtype(np.dtype(name)): name for name in DTYPES}
    if not value.type.HasField("tensor_type") or kind.elem_type not in dtypes:
        raise RequestError(
            f"inputs and outputs must be tensors of {', '.join(DTYPES)}, but got {value.name!r} of {_kind(value.type)}"
        )
    shape = tuple(size.dim_param or size.dim_value for size in kind.shape.dim)
    if shape and (isinstance(shape[0], str) or shape[0] in (0, 1)):  # 0: free without a name
        shape = (BATCH, *shape[1:])
    return TensorSpec(name=value.name, dtype=dtypes[kind.elem_type], shape=shape)


def _kind(type_: onnx.TypeProto) -> str:
    """Name a type that no `TensorSpec` has, such as `sequence`, `optional` or `string`."""
    kind = str(type_.WhichOneof("value") or "no")
    if kind != "tensor_type":
        return f"{kind.removesuffix('_type')} type"
    number = type_.tensor_type.elem_type
    known = onnx.TensorProto.DataType
    return f"{known.Name(number).lower() if number in known.values() else number} type"


def _require_names(kind: str, expected: Sequence[str], found: Sequence[str], path: Path) -> None:
    if list(found) != list(expected):
        wanted, names = ", ".join(expected), ", ".join(found)
        raise RequestError(f"a model file must have {kind} {wanted}, but got {path} with {names}")
