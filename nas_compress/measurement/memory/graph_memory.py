"""Memory of a file's graph: sizes of its tensors from a run of one batch, branches included."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper

from nas_compress.devices.onnx_session import ERRORS_ONLY, read_content, read_model
from nas_compress.devices.onnxruntime_cpu.timed_session import sample_batch
from nas_compress.devices.protocol import NO_SIZES
from nas_compress.errors import RequestError, first_line
from nas_compress.export.graph_edits import inner_graphs
from nas_compress.files import TEMPORARY
from nas_compress.measurement.memory.liveness import OVERWRITING, Step, peak_bytes

FOUR_BITS = frozenset({TensorProto.INT4, TensorProto.UINT4})
TWO_BITS = frozenset({TensorProto.INT2, TensorProto.UINT2})

Values = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class GraphMemory:
    """Bytes of one run.

    weights: stored tensors as the kernels read them. activations: largest sum of the inputs, the outputs and the
    tensors between them that are in use at once.
    """

    weights: int
    activations: int


@dataclass(frozen=True, kw_only=True)
class _Rules:
    """Sharing of buffers in a run. name: of the file, for errors."""

    keep_inputs: bool
    overwriting: Mapping[str, int]
    name: str


def runtime_memory(path: Path, *, batch: int = 1, sizes: Mapping[str, int] = NO_SIZES) -> GraphMemory:
    """Return the memory of a run by onnxruntime on the CPU.

    Its graph is the one after all optimisations, with weights unpacked. The inputs belong to the caller and live to the
    end. Buffers that kernels take for themselves are not counted.

    batch: samples of the run, 1 by default. sizes: of other free dimensions. RequestError if the file does not run, or
    has a loop.
    """
    rules = _Rules(keep_inputs=True, overwriting=OVERWRITING, name=path.name)
    return _memory(path, ort.GraphOptimizationLevel.ORT_ENABLE_ALL, rules, batch=batch, sizes=sizes)


def portable_memory(path: Path, *, sizes: Mapping[str, int] = NO_SIZES) -> GraphMemory:
    """Return the memory of one sample for other runtimes: fused operators, no layout of one processor.

    No operator overwrites its input. The input of the graph is free after its last reader. RequestError as in
    `runtime_memory`.
    """
    rules = _Rules(keep_inputs=False, overwriting={}, name=path.name)
    return _memory(path, ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED, rules, batch=1, sizes=sizes)


def _memory(
    path: Path, level: ort.GraphOptimizationLevel, rules: _Rules, *, batch: int, sizes: Mapping[str, int]
) -> GraphMemory:
    with tempfile.TemporaryDirectory(prefix=TEMPORARY) as folder:
        optimised = Path(folder) / "optimised.onnx"
        session = _session(read_content(path), level, str(path), optimised=optimised)
        model = read_model(optimised)
    inputs = sample_batch(session, batch, sizes, str(path))
    weights, peak = _graph_memory(model, model.graph, inputs, rules)
    return GraphMemory(weights=weights, activations=peak)


def _graph_memory(model: onnx.ModelProto, graph: onnx.GraphProto, given: Values, rules: _Rules) -> tuple[int, int]:
    """Return the bytes of stored tensors at any depth, and the peak of the others. given: input values."""
    stored = {tensor.name: tensor for tensor in graph.initializer}
    values = {**given, **_computed(model, graph, given, rules.name)}
    weights = sum(map(tensor_bytes, stored.values()))
    steps = []
    for node in graph.node:
        inner, reads = 0, [name if name in values else "" for name in node.input]
        for branch in inner_graphs(node):
            if node.op_type != "If":
                rule = "memory is computed of graphs without loops"
                raise RequestError(f"{rule}, but got {node.op_type} in {rules.name}")
            needed = _captured(branch)
            outer = {name: values[name] for name in needed if name in values}
            shared = [stored[name] for name in needed if name in stored]
            part = onnx.GraphProto()
            part.CopyFrom(branch)
            part.initializer.extend(shared)
            own, peak = _graph_memory(model, part, outer, replace(rules, keep_inputs=True))
            weights += own - sum(map(tensor_bytes, shared))
            inner = max(inner, peak - sum(each.nbytes for each in outer.values()))
            reads += [name for name in outer if name not in reads]
        writes = tuple(name for name in node.output if name)
        inner = max(0, inner - sum(values[name].nbytes for name in writes)) if inner else 0
        steps.append(Step(operator=node.op_type, reads=tuple(reads), writes=writes, inner=inner))
    peak = peak_bytes(
        steps,
        {name: int(value.nbytes) for name, value in values.items()},
        inputs=list(given),
        outputs=[value.name for value in graph.output if value.name in values],
        keep_inputs=rules.keep_inputs,
        overwriting=rules.overwriting,
    )
    return weights, peak


def _computed(model: onnx.ModelProto, graph: onnx.GraphProto, given: Values, name: str) -> dict[str, NDArray[Any]]:
    """Run a graph, and return the values of all its tensors that are not stored."""
    names = [output for node in graph.node for output in node.output if output]
    if not names:
        return {}
    part = onnx.GraphProto()
    part.CopyFrom(graph)
    del part.output[:], part.input[:]
    part.input.extend(
        helper.make_tensor_value_info(given_name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for given_name, value in given.items()
    )
    part.output.extend(onnx.ValueInfoProto(name=output) for output in names)
    whole = helper.make_model(part, opset_imports=list(model.opset_import), ir_version=model.ir_version)
    session = _session(whole.SerializeToString(), ort.GraphOptimizationLevel.ORT_DISABLE_ALL, name)
    return dict(zip(names, map(np.asarray, session.run(names, dict(given))), strict=True))


def _captured(branch: onnx.GraphProto) -> list[str]:
    """Return the names of the outer graph that a branch reads, at any depth."""
    own = {tensor.name for tensor in branch.initializer}
    found: dict[str, None] = {}
    for node in branch.node:
        inner = [name for graph in inner_graphs(node) for name in _captured(graph)]
        found.update((name, None) for name in (*node.input, *inner) if name and name not in own)
        own.update(node.output)
    found.update((value.name, None) for value in branch.output if value.name not in own)
    return list(found)


def tensor_bytes(tensor: TensorProto) -> int:
    """Return the bytes of a tensor's numbers in memory, at its own width."""
    count = int(prod(tensor.dims))
    if tensor.data_type in FOUR_BITS | TWO_BITS:
        each = 2 if tensor.data_type in FOUR_BITS else 4
        return -(-count // each)
    return count * int(helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)


def _session(
    content: bytes, level: ort.GraphOptimizationLevel, where: str, *, optimised: Path | None = None
) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    options.graph_optimization_level = level
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
    try:
        return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's exceptions have no common root
        raise RequestError(f"a model file must load in onnxruntime, but got {where}: {first_line(error)}") from error
