"""Contents of an ONNX file: bytes of its stored tensors per layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from nas_compress.devices.onnx_session import read_model, start_session

MULTIPLYING = frozenset({"Conv", "Gemm", "MatMul"})
"""Operators whose second input is a weight if it is computed from stored tensors."""

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
    """Return the layers of a file in the order of the graph; the rest of its bytes is the graph itself.

    A tensor read by several layers counts for the first. RequestError if the file is no model.
    """
    graph = read_model(path).graph
    nodes = list(graph.node)  # held, so that each keeps its identity
    readers, labels = _readers(nodes), _labels(nodes)
    passing = _passing(nodes, {tensor.name for tensor in graph.initializer})
    tensors: dict[str, list[onnx.TensorProto]] = {}
    for tensor in graph.initializer:
        node = readers.get(tensor.name)
        while node is not None and id(node) in passing and node.output[0] in readers:
            node = readers[node.output[0]]
        label = labels[id(node)] if node is not None else "unread"
        tensors.setdefault(label, []).append(tensor)
    order = {label: place for place, label in enumerate(labels.values())}
    layers = sorted(tensors.items(), key=lambda item: order.get(item[0], len(order)))
    return tuple(_layer(label, stored) for label, stored in layers)


def weight_zero_fraction(path: Path) -> float:
    """Return the fraction of zeros among the weights of convolutions and products; 0.0 if there are none.

    A tensor read by several operators counts once. RequestError if the file is no model.
    """
    weights = multiplied_weights(path)
    count = sum(weight.size for weight in weights)
    return float(sum(np.count_nonzero(weight == 0) for weight in weights) / count) if count else 0.0


def multiplied_weights(path: Path) -> list[NDArray[Any]]:
    """Return the weights of the file's convolutions and products, decoded as by the runtime.

    The file's own nodes compute them from stored tensors, so zeros added by a runtime's layout are not included.
    """
    model = read_model(path)
    constant = {tensor.name for tensor in model.graph.initializer} | {""}
    decoding, wanted = [], []
    for node in model.graph.node:
        if constant.issuperset(node.input):
            constant.update(node.output)
            decoding.append(node)
        elif node.op_type in MULTIPLYING and node.input[1] in constant:
            wanted.append(node.input[1])
    return _decoded(model, decoding, list(dict.fromkeys(wanted)))


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
        if constant.issuperset(node.input):
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
    return int(helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize) * int(prod(tensor.dims))


def _decoded(model: onnx.ModelProto, nodes: list[onnx.NodeProto], wanted: list[str]) -> list[NDArray[Any]]:
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    plain = [numpy_helper.to_array(stored[name]) for name in wanted if name in stored]
    outputs = [helper.make_empty_tensor_value_info(name) for name in wanted if name not in stored]
    if not outputs:
        return plain
    part = helper.make_model(
        helper.make_graph(nodes, "weights", [], outputs, initializer=list(stored.values())),
        opset_imports=list(model.opset_import),
        ir_version=model.ir_version,
    )
    return [*plain, *start_session(part.SerializeToString()).run(None, {})]
