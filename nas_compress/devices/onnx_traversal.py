"""Parts of an ONNX model at any depth: in branches and loops, in attributes and in functions of the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import onnx
from onnx import TensorProto, helper, inliner, numpy_helper

from nas_compress.export.graph_edits import inner_graphs

Part = TypeVar("Part")


def parts(message: Any, kind: type[Part]) -> Iterator[Part]:
    """Yield every part of this protobuf type, in the order of the file."""
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for each in value if hasattr(value, "__len__") else [value]:
            if isinstance(each, kind):
                yield each
            if not isinstance(each, TensorProto):  # its parts are texts, and listing them would copy its bytes
                yield from parts(each, kind)


def tensors(message: Any) -> Iterator[onnx.TensorProto]:
    """Yield every stored tensor: initialisers, also sparse ones, and attributes such as those of Constant nodes."""
    yield from parts(message, TensorProto)


def lies_outside(tensor: onnx.TensorProto) -> bool:
    """Return True if a tensor names another file or an address in memory in place of its own bytes."""
    return bool(tensor.data_location == TensorProto.EXTERNAL or tensor.external_data)


@dataclass(frozen=True, kw_only=True)
class FlatGraph:
    """All nodes of a model in one list, and all stored tensors by name.

    nodes: in order of execution. Those of a branch or of a loop's body precede the node that has them, and functions
    of the model are written out.
    stored: initialisers, the values of sparse ones, and the tensors of Constant nodes.
    """

    nodes: tuple[onnx.NodeProto, ...]
    stored: Mapping[str, TensorProto]


def flat_graph(model: onnx.ModelProto) -> FlatGraph:
    """Return the nodes and tensors of a model; inner graphs get names of their own."""
    if model.functions:
        model = inliner.inline_local_functions(model)
    nodes: list[onnx.NodeProto] = []
    stored: dict[str, TensorProto] = {}
    _flatten(model.graph, {}, nodes, stored, scope="")
    return FlatGraph(nodes=tuple(nodes), stored=stored)


def holds_graphs(node: onnx.NodeProto) -> bool:
    """Return True for a branch or a loop, which is a graph inside a node in a model."""
    return node.op_type in ("If", "Loop", "Scan") and not node.domain


def _flatten(
    graph: onnx.GraphProto,
    outer: Mapping[str, str],
    nodes: list[onnx.NodeProto],
    stored: dict[str, TensorProto],
    *,
    scope: str,
) -> None:
    names = {**outer, **{value.name: scope + value.name for value in graph.input}}

    def store(tensor: TensorProto, name: str) -> None:
        names[name] = scope + name
        stored[names[name]] = tensor

    for tensor in graph.initializer:
        store(tensor, tensor.name)
    for sparse in graph.sparse_initializer:
        store(sparse.values, sparse.values.name)
    for number, node in enumerate(graph.node):
        if node.op_type == "Constant" and not node.domain and len(node.output) == 1:
            store(_constant(node), node.output[0])
            continue
        for place, inner in enumerate(inner_graphs(node)):
            _flatten(inner, names, nodes, stored, scope=f"{scope}{number}.{place}/")
        copy = onnx.NodeProto(op_type=node.op_type, domain=node.domain)
        copy.input.extend(names.get(name, name) for name in node.input)
        names.update((name, scope + name) for name in node.output if name)
        copy.output.extend(names.get(name, name) for name in node.output)
        copy.attribute.extend(each for each in node.attribute if not (each.HasField("g") or each.graphs))
        nodes.append(copy)


def _constant(node: onnx.NodeProto) -> TensorProto:
    """Return the tensor of a Constant node; of a sparse one its values, of texts an empty one."""
    kinds = onnx.AttributeProto
    tensor: TensorProto
    for attribute in node.attribute:
        if attribute.type in (kinds.TENSOR, kinds.SPARSE_TENSOR):
            tensor = attribute.t if attribute.type == kinds.TENSOR else attribute.sparse_tensor.values
            return tensor
        if attribute.type in (kinds.FLOAT, kinds.FLOATS, kinds.INT, kinds.INTS):
            dtype = np.float32 if attribute.type in (kinds.FLOAT, kinds.FLOATS) else np.int64
            return numpy_helper.from_array(np.asarray(helper.get_attribute_value(attribute), dtype=dtype))
    return TensorProto(data_type=TensorProto.STRING, dims=[0])
