"""Teachers in files that a runtime computes: ONNX and TorchScript. They give answers, and have no layers to use."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from nas_compress.devices.onnx_session import (
    NUMPY_TYPES,
    open_session,
    read_content,
    require_same_pieces,
    start_session,
)
from nas_compress.errors import RequestError, describe
from nas_compress.export.onnx_file import export_onnx
from nas_compress.files import digest_of_file
from nas_compress.measurement.onnx_macs import count_onnx_macs
from nas_compress.models.macs import CountedNetwork
from nas_compress.tasks.batch import Batch, to_arrays, to_device
from nas_compress.teacher.chosen_output import KEY, pick
from nas_compress.user_code import is_torchscript
from nas_compress.values.signature import Signature, TensorSpec

PREFIX = "teacher_"
"""Prefix of all names inside an ONNX file whose inputs or outputs get other names."""


@dataclass(frozen=True, kw_only=True)
class _End:
    """An input or output of a file. shape: whole numbers are fixed, other sizes are free."""

    name: str
    dtype: str
    shape: tuple[object, ...]


class RuntimeNetwork(nn.Module):
    """A network without layers for features, pruning or initial weights.

    name: of its file. digest: SHA-256 of the file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.name, self.digest = path.name, digest_of_file(path)


class _Traced:
    """Owner of a function whose calls are in a trace, which would not keep it alive. Copies of it are empty."""

    function: Any = None

    def __deepcopy__(self, memo: Mapping[int, object]) -> _Traced:
        return _Traced()


class TorchScriptNetwork(RuntimeNetwork, CountedNetwork):
    """A program of `torch.jit.save`; its outputs become float32."""

    def __init__(self, path: Path, signature: Signature, output: str | int | None) -> None:
        super().__init__(path)
        self.signature, self.output = signature, output
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch deprecates TorchScript
            self.program: nn.Module = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
        # a parameter with a gradient would be the result of an operation after it was moved
        for parameter in self.program.parameters():
            parameter.requires_grad_(False)
        self._last_traced = _Traced()

    def forward(self, *samples: Tensor) -> Any:
        """Run the program."""
        program: Any = self.program
        if torch._C._is_tracing():
            program = self._last_traced.function = _function_of(self.program)
        returned = program(*samples)
        if self.output is not None:
            returned = pick(returned, self.output)
        if isinstance(returned, Tensor):
            return returned.float() if returned.is_floating_point() else returned
        return returned

    def count_parameters(self) -> int:
        """Count the parameters of the program, each shared tensor once."""
        return sum(parameter.numel() for parameter in self.program.parameters())

    def count_macs(self, batch: Batch) -> int:
        """Count the multiply-adds of a batch of one sample on an ONNX file; programs take no hooks of torch."""
        with tempfile.TemporaryDirectory(prefix="nas_compress_") as folder:
            file = Path(folder) / "model.onnx"
            export_onnx(self, self.signature, file)
            return count_onnx_macs(file.read_bytes(), to_arrays(to_device(batch, "cpu")))


def _function_of(program: nn.Module) -> Any:
    """Return a program as a function with constant weights, because a trace refuses loaded programs as modules."""
    graph = torch.jit.freeze(program.eval(), optimize_numerics=False).graph.copy()
    graph.eraseInput(0)  # the module itself, of which a frozen program reads nothing
    return torch._C._create_function_from_graph("program", graph)


class OnnxNetwork(RuntimeNetwork, CountedNetwork):
    """An ONNX file in onnxruntime on the CPU, with one thread.

    content: bytes of the file with the names of the signature.
    """

    def __init__(self, path: Path, content: bytes, signature: Signature) -> None:
        super().__init__(path)
        self.content, self.signature = content, signature
        self._session = start_session(content)

    def forward(self, *samples: Tensor) -> Any:
        """Run the file."""
        feeds = to_arrays(dict(zip(self.signature.input_names, samples, strict=True)))
        found = self._session.run(list(self.signature.output_names), feeds)
        outputs = tuple(torch.from_numpy(value).to(samples[0].device) for value in found)
        return outputs if len(outputs) > 1 else outputs[0]

    def count_parameters(self) -> int:
        """Count the float numbers stored in the file."""
        stored = onnx.load_model_from_string(self.content).graph.initializer
        arrays = [numpy_helper.to_array(tensor) for tensor in stored]
        return sum(array.size for array in arrays if array.dtype.kind == "f")

    def count_macs(self, batch: Batch) -> int:
        """Count the multiply-adds of a batch of one sample."""
        return count_onnx_macs(self.content, to_arrays(to_device(batch, "cpu")))

    def __deepcopy__(self, memo: Mapping[int, object]) -> Self:
        """Return the network itself: nothing in it changes."""
        return self


def is_runtime_file(path: Path) -> bool:
    """True for an ONNX file by its name, and for a TorchScript program by its content."""
    return path.suffix == ".onnx" or is_torchscript(path)


def open_runtime_network(path: Path, signature: Signature, output: str | int | None, label: str) -> RuntimeNetwork:
    """Open an ONNX or TorchScript file; RequestError if it does not load or does not fit the data.

    output: name or place of an output, None for all. label: of the study file.
    """
    try:
        if path.suffix == ".onnx":
            return OnnxNetwork(path, _renamed(path, signature, output), signature)
        return TorchScriptNetwork(path, signature, output)
    except RequestError as error:
        raise RequestError(f"{label}: teacher.weights: {error}") from error
    except Exception as error:  # torch and onnx raise many types for other files
        raise RequestError(f"{label}: teacher.weights must load, but {path} raised {describe(error)}") from error


def _renamed(path: Path, signature: Signature, output: str | int | None) -> bytes:
    """Return the file with the names and shapes of the signature, and with the chosen output only."""
    session = open_session(path)  # refuses other files, external weights and unknown operators
    inputs, returned = _ends(session.get_inputs()), _ends(session.get_outputs())
    if len(inputs) != len(signature.inputs):
        raise RequestError(f"the file must take {_words(signature.inputs)}, but it takes {_words(inputs)}")
    named = {end.name: end for end in inputs}
    if all(name in named for name in signature.input_names):
        inputs = tuple(named[name] for name in signature.input_names)
    for end, wanted in zip(inputs, signature.inputs, strict=True):
        _require_like(end, wanted, "take")
    outputs = _chosen(returned, signature, output)
    for end, wanted in zip(outputs, signature.outputs, strict=True):
        _require_like(end, wanted, "return")
    model = onnx.load_model_from_string(read_content(path))
    require_same_pieces(model, signature, path)
    graph = model.graph
    _prefix_(graph)
    stored = {tensor.name for tensor in graph.initializer}
    first = [
        helper.make_node("Identity", [wanted.name], [PREFIX + end.name])
        for end, wanted in zip(inputs, signature.inputs, strict=True)
    ]
    last = [
        helper.make_node("Cast", [PREFIX + end.name], [wanted.name], to=_kind(wanted))
        for end, wanted in zip(outputs, signature.outputs, strict=True)
    ]
    nodes = [*first, *graph.node, *last]
    del graph.node[:]
    graph.node.extend(nodes)
    kept = [value for value in graph.input if value.name in stored]
    for ends, specs in ((graph.input, signature.inputs), (graph.output, signature.outputs)):
        del ends[:]
        ends.extend(helper.make_tensor_value_info(spec.name, _kind(spec), spec.shape) for spec in specs)
    graph.input.extend(kept)
    del graph.value_info[:]  # shapes for the batch that was exported
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _prefix_(graph: onnx.GraphProto) -> None:
    """Put PREFIX before the names of all values, also in branches and loops, which read values around them.

    `onnx.compose.add_prefix` leaves the names that branches read from outside.
    """
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [PREFIX + name if name else "" for name in names]  # an empty name is an omitted argument
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                _prefix_(inner)
    sparse = [tensor.values for tensor in graph.sparse_initializer]
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer, *sparse):
        value.name = PREFIX + value.name
    del graph.quantization_annotation[:]  # notes of exporters with names of values; no runtime needs them


def _ends(values: Sequence[Any]) -> tuple[_End, ...]:
    return tuple(_End(name=each.name, dtype=NUMPY_TYPES[each.type], shape=tuple(each.shape)) for each in values)


def _chosen(ends: Sequence[_End], signature: Signature, output: str | int | None) -> tuple[_End, ...]:
    named = {end.name: end for end in ends}
    if output is not None:
        if len(signature.outputs) != 1:
            raise RequestError(f"{KEY} names one output, but the data need {_words(signature.outputs)}")
        return (pick(named, output),)
    if all(name in named for name in signature.output_names):
        return tuple(named[name] for name in signature.output_names)
    if len(ends) != len(signature.outputs):
        wanted = _words(signature.outputs)
        raise RequestError(f"the file must return {wanted}, but it returns {_words(ends)}; choose one by {KEY}")
    return tuple(ends)


def _require_like(end: _End, wanted: TensorSpec, verb: str) -> None:
    """Require the type and the fixed sizes; any float type of an output fits. The batch may be fixed."""
    floats = verb == "return" and end.dtype.startswith("float") and wanted.dtype.startswith("float")
    fits = (end.dtype == wanted.dtype or floats) and len(end.shape) in (0, len(wanted.shape))
    pairs = zip(end.shape[1:], wanted.sample_shape, strict=False)
    if not fits or any(isinstance(own, int) and own != size for own, size in pairs):
        raw = "; its samples are passed raw" if verb == "take" else ""
        raise RequestError(f"the file must {verb} {_words([wanted])}, but it {verb}s {_words([end])}{raw}")


def _words(ends: Sequence[_End | TensorSpec]) -> str:
    shown = [f"{end.name} {end.dtype} ({', '.join(map(str, end.shape))})" for end in ends]
    return ", ".join(shown) or "nothing"


def _kind(spec: TensorSpec) -> int:
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype)))
