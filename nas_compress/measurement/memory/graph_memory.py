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
from onnx import TensorProto, helper, numpy_helper

from nas_compress.devices.onnx_session import ERRORS_ONLY, read_content, read_model
from nas_compress.devices.onnxruntime_cpu.timed_session import random_batch
from nas_compress.devices.protocol import NO_SIZES
from nas_compress.errors import RequestError, first_line
from nas_compress.export.graph_edits import inner_graphs, separate_names_
from nas_compress.files import TEMPORARY
from nas_compress.measurement.memory.kernel_buffers import kernel_buffer
from nas_compress.measurement.memory.liveness import ONNXRUNTIME, PORTABLE, Rules, Size, Step, peak_bytes

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


def runtime_memory(path: Path, *, batch: int = 1, sizes: Mapping[str, int] = NO_SIZES) -> GraphMemory:
    """Return the memory of a run by onnxruntime on the CPU.

    Its graph is the one after all optimisations, with weights unpacked. The inputs belong to the caller and live to the
    end. The buffers of integer and transposed convolutions count as activations.

    batch: samples of the run, 1 by default. sizes: of other free dimensions. RequestError if the file does not run, or
    has a loop.
    """
    return _memory(path, ort.GraphOptimizationLevel.ORT_ENABLE_ALL, ONNXRUNTIME, batch=batch, sizes=sizes)


def portable_memory(path: Path, *, sizes: Mapping[str, int] = NO_SIZES) -> GraphMemory:
    """Return the memory of one sample for other runtimes: fused operators, no layout of one processor.

    No operator overwrites its input. The input of the graph is free after its last reader. RequestError as in
    `runtime_memory`.
    """
    return _memory(path, ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED, PORTABLE, batch=1, sizes=sizes)


def _memory(
    path: Path, level: ort.GraphOptimizationLevel, rules: Rules, *, batch: int, sizes: Mapping[str, int]
) -> GraphMemory:
    with tempfile.TemporaryDirectory(prefix=TEMPORARY) as folder:
        optimised = Path(folder) / "optimised.onnx"
        session = _session(read_content(path), level, str(path), optimised=optimised)
        model = read_model(optimised)
    separate_names_(model.graph)  # onnxruntime gives tensors of a branch and of the graph around it equal names
    inputs = random_batch(session, batch, sizes, str(path))
    return _Run(model=model, where=path.name).memory(model.graph, inputs, rules, outer={})


@dataclass(frozen=True, kw_only=True)
class _Run:
    """One run of a model. where: name of its file, for errors."""

    model: onnx.ModelProto
    where: str

    def memory(
        self, graph: onnx.GraphProto, given: Values, rules: Rules, *, outer: Mapping[str, TensorProto]
    ) -> GraphMemory:
        """Return the memory of a graph and its branches.

        given: input values. outer: stored tensors of the graphs around it.
        """
        own = {tensor.name: tensor for tensor in graph.initializer}
        stored = {**outer, **own}
        values = {**given, **self._computed(graph, given)}
        loose = _loose(graph, stored)
        sizes = {
            name: Size(shape=value.shape, width=value.itemsize, fixed=name not in loose)
            for name, value in values.items()
        }
        known = sizes | {name: Size(shape=tuple(each.dims), width=0) for name, each in stored.items()}
        weights, steps = sum(map(tensor_bytes, own.values())), []
        nodes = [node for node in graph.node if node.op_type != "Constant"]
        for node in nodes:
            inner = 0
            reads = [name if name in values else "" for name in node.input]
            for branch in inner_graphs(node):
                captured, part = self._branch(node, branch, values, stored)
                found = self.memory(part, captured, replace(rules, keep_inputs=True), outer=stored)
                weights += found.weights
                inner = max(inner, found.activations - sum(each.nbytes for each in captured.values()))
                reads += [name for name in captured if name not in reads]
            writes = tuple(filter(None, node.output))
            steps.append(Step(operator=node.op_type, reads=tuple(reads), writes=writes, inner=inner))
        outputs = [value.name for value in graph.output if value.name in values]
        peak = peak_bytes(steps, sizes, inputs=list(given), outputs=outputs, rules=rules)
        kernels = max((kernel_buffer(node, known) for node in nodes), default=0) if rules.planned else 0
        return GraphMemory(weights=weights, activations=peak + kernels)

    def _branch(
        self, node: onnx.NodeProto, branch: onnx.GraphProto, values: Values, stored: Mapping[str, TensorProto]
    ) -> tuple[Values, onnx.GraphProto]:
        """Return the outer values that a branch reads, and a graph with the outer weights as constants."""
        if node.op_type != "If":
            raise RequestError(
                f"memory is computed of graphs without loops, but got {node.op_type} in {self.where}; leave memory out"
            )
        needed = _captured(branch)
        part = onnx.GraphProto()
        part.CopyFrom(branch)
        for name in needed:
            if name in stored:  # no initialiser, because weights of the outer graph are counted there
                part.node.insert(0, helper.make_node("Constant", [], [name], value=stored[name]))
        return {name: values[name] for name in needed if name in values}, part

    def _computed(self, graph: onnx.GraphProto, given: Values) -> dict[str, NDArray[Any]]:
        """Run a graph, and return the values of all its tensors that are not stored."""
        nodes = [node for node in graph.node if node.op_type != "Constant"]
        names = [name for node in nodes for name in node.output if name]
        if not names:
            return {}
        part = onnx.GraphProto()
        part.CopyFrom(graph)
        del part.output[:], part.input[:]
        part.input.extend(
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
            for name, value in given.items()
        )
        part.output.extend(onnx.ValueInfoProto(name=name) for name in names)
        whole = helper.make_model(part, opset_imports=list(self.model.opset_import), ir_version=self.model.ir_version)
        session = _session(whole.SerializeToString(), ort.GraphOptimizationLevel.ORT_DISABLE_ALL, self.where)
        return dict(zip(names, map(np.asarray, session.run(names, dict(given))), strict=True))


def _loose(graph: onnx.GraphProto, stored: Mapping[str, TensorProto]) -> set[str]:
    """Return the tensors of a shape unknown before a run: those made by Reshape with a free size, and from them."""
    found: set[str] = set()
    for node in graph.node:
        free = node.op_type == "Reshape" and not node.domain
        if free and node.input[1] in stored:
            free = -1 in numpy_helper.to_array(stored[node.input[1]])
        if free or found.intersection(node.input):
            found.update(node.output)
    return found


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
