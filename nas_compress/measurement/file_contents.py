"""Contents of an ONNX file: bytes of its stored tensors per layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from nas_compress.devices.onnx_session import read_model, start_session
from nas_compress.devices.onnx_traversal import FlatGraph, flat_graph, holds_graphs

WEIGHT_INPUTS: Mapping[str, tuple[int, ...]] = {
    "Conv": (1,),
    "ConvTranspose": (1,),
    "Gemm": (0, 1),
    "MatMul": (0, 1),
    "Einsum": (0, 1, 2),
    "Gather": (0,),
    "LSTM": (1, 2),
    "GRU": (1, 2),
    "RNN": (1, 2),
}
"""Inputs of operators that are weights if they are floats computed from stored tensors."""

LARGEST_TABLE = 256
"""Most values in a table of levels or of shared values; floats looked up in a larger tensor are stored floats."""

PASSING = frozenset({"QuantizeLinear", "DequantizeLinear", "Cast", "Transpose", "Reshape", "Identity"})
"""Operators that only pass a tensor on. Their stored inputs belong to the layer after them.

So do the inputs of nodes computed from stored tensors alone, such as a product of integer weights and their scales.
"""


@dataclass(frozen=True, kw_only=True)
class StoredLayer:
    """One operator with stored tensors, such as `Conv 3`; shape and kind are those of its largest tensor."""

    name: str
    shape: tuple[int, ...]
    kind: str
    size_bytes: int


def stored_layers(path: Path) -> tuple[StoredLayer, ...]:
    """Return the layers of a file in the order of execution; the rest of its bytes is the graph itself.

    A tensor read by several layers counts for the first. RequestError if the file is no model.
    """
    graph = flat_graph(read_model(path))
    nodes = graph.nodes  # held, so that each keeps its identity
    readers, labels = _readers(nodes), _labels(nodes)
    passing = _passing(nodes, set(graph.stored))
    tensors: dict[str, list[onnx.TensorProto]] = {}
    for name, tensor in graph.stored.items():
        node = readers.get(name)
        while node is not None and id(node) in passing and node.output[0] in readers:
            node = readers[node.output[0]]
        label = labels[id(node)] if node is not None else "unread"
        tensors.setdefault(label, []).append(tensor)
    order = {label: place for place, label in enumerate(labels.values())}
    layers = sorted(tensors.items(), key=lambda item: order.get(item[0], len(order)))
    return tuple(_layer(label, stored) for label, stored in layers)


@dataclass(frozen=True, kw_only=True)
class WeightContents:
    """Numbers among the weights of a file's convolutions, products and look-ups.

    zero_fraction: fraction of zeros. float32_fraction: fraction in tensors stored as 32-bit floats. Both are 0.0
    without weights.
    """

    zero_fraction: float
    float32_fraction: float


def weight_contents(path: Path) -> WeightContents:
    """Count zeros and stored floats; a tensor read by several operators counts once.

    RequestError if the file is no model.
    """
    model = read_model(path)
    graph = flat_graph(model)
    weights, floats = _weights(model, graph), _stored_floats(graph)
    count = max(1, sum(weight.size for weight in weights.values()))
    zeros = sum(np.count_nonzero(weight == 0) for weight in weights.values())
    in_floats = sum(weight.size for name, weight in weights.items() if floats[name].holds(weight.size))
    return WeightContents(zero_fraction=float(zeros / count), float32_fraction=in_floats / count)


def weight_zero_fraction(path: Path) -> float:
    """Return the fraction of zeros among the weights of a file; see `WeightContents`."""
    return weight_contents(path).zero_fraction


def multiplied_weights(path: Path) -> list[NDArray[Any]]:
    """Return the weights of the file's convolutions, products and look-ups, decoded as by the runtime.

    The file's own nodes compute them from stored tensors, so zeros added by a runtime's layout are not included.
    """
    model = read_model(path)
    return list(_weights(model, flat_graph(model)).values())


def _weights(model: onnx.ModelProto, graph: FlatGraph) -> dict[str, NDArray[Any]]:
    """Return the weights by the names of their tensors."""
    constant = {*graph.stored, ""}
    decoding: list[onnx.NodeProto] = []
    wanted: dict[str, None] = {}
    for node in graph.nodes:
        if constant.issuperset(node.input) and not holds_graphs(node):
            constant.update(node.output)
            decoding.append(node)
        else:
            places = WEIGHT_INPUTS.get(node.op_type, ())
            inputs = [node.input[place] for place in places if place < len(node.input)]
            wanted.update((name, None) for name in inputs if name and name in constant)
    decoded = _decoded(model, graph.stored, decoding, list(wanted))
    return {name: values for name, values in decoded.items() if values.dtype.kind == "f"}


@dataclass(frozen=True, kw_only=True)
class _Floats:
    """Size of the largest 32-bit tensor behind a constant. looked_up: the same with a look-up or scatter between."""

    direct: int = 0
    looked_up: int = 0

    def holds(self, numbers: int) -> bool:
        """Return True if this many numbers come from it; scales and tables are smaller."""
        return 2 * self.direct >= numbers or self.looked_up > LARGEST_TABLE


def _stored_floats(graph: FlatGraph) -> dict[str, _Floats]:
    """Return the stored floats behind each stored or constant tensor."""
    wide = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE)
    found = {"": _Floats()} | {
        name: _Floats(direct=int(prod(tensor.dims)) if tensor.data_type in wide else 0)
        for name, tensor in graph.stored.items()
    }
    for node in graph.nodes:
        if not found.keys() >= set(node.input) or holds_graphs(node):
            continue
        inputs = [found[name] for name in node.input]
        direct = max((each.direct for each in inputs), default=0)
        looked_up = max((each.looked_up for each in inputs), default=0)
        if node.op_type in ("Gather", "ScatterElements"):
            direct, looked_up = 0, max(direct, looked_up)
        found.update(dict.fromkeys(node.output, _Floats(direct=direct, looked_up=looked_up)))
    return found


def _readers(nodes: Sequence[onnx.NodeProto]) -> dict[str, onnx.NodeProto]:
    """Return the first node that reads each tensor."""
    readers: dict[str, onnx.NodeProto] = {}
    for node in nodes:
        for name in node.input:
            readers.setdefault(name, node)
    return readers


def _passing(nodes: Sequence[onnx.NodeProto], stored: set[str]) -> set[int]:
    """Return the nodes, by identity, that belong to the layer after them."""
    constant = set(stored)
    passing = set()
    for node in nodes:
        if constant.issuperset(node.input) and not holds_graphs(node):
            constant.update(node.output)
            passing.add(id(node))
        elif node.op_type in PASSING:
            passing.add(id(node))
    return passing


def _labels(nodes: Sequence[onnx.NodeProto]) -> dict[int, str]:
    counts: Counter[str] = Counter()
    labels = {}
    for node in nodes:
        counts[node.op_type] += 1
        labels[id(node)] = f"{node.op_type} {counts[node.op_type]}"
    return labels


def _layer(label: str, stored: list[onnx.TensorProto]) -> StoredLayer:
    largest = max(stored, key=_bytes)
    return StoredLayer(
        name=label,
        shape=tuple(largest.dims),
        kind=onnx.TensorProto.DataType.Name(largest.data_type).lower(),
        size_bytes=sum(_bytes(tensor) for tensor in stored),
    )


def _bytes(tensor: onnx.TensorProto) -> int:
    if tensor.HasField("raw_data"):
        return len(tensor.raw_data)
    try:
        return int(helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize) * int(prod(tensor.dims))
    except KeyError:  # no type, or one of a later version
        return int(tensor.ByteSize())


def _decoded(
    model: onnx.ModelProto, stored: Mapping[str, onnx.TensorProto], nodes: list[onnx.NodeProto], wanted: list[str]
) -> dict[str, NDArray[Any]]:
    plain = {name: numpy_helper.to_array(stored[name]) for name in wanted if name in stored}
    computed = [name for name in wanted if name not in stored]
    if not computed:
        return plain
    tensors = []
    for name, tensor in stored.items():
        tensors.append(onnx.TensorProto())
        tensors[-1].CopyFrom(tensor)
        tensors[-1].name = name
    part = helper.make_model(
        helper.make_graph(nodes, "weights", [], list(map(helper.make_empty_tensor_value_info, computed)), tensors),
        opset_imports=list(model.opset_import),
        ir_version=model.ir_version,
    )
    values = start_session(part.SerializeToString()).run(None, {})
    return plain | dict(zip(computed, values, strict=True))
