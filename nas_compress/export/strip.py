"""Removal of all that the runtime does not need; the remaining bytes are the model's size."""

from __future__ import annotations

import string
from collections.abc import Iterator
from itertools import count, filterfalse, product

import onnx
from onnx import helper, numpy_helper

from nas_compress.export.graph_edits import every_graph, initialisers, inner_graphs, read_names, separate_names_
from nas_compress.values.file_constants import IR_VERSION, OPSET


def strip(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a new model of the same nodes in the same order, without comments, traces, paths and long names.

    Needs inputs and outputs of known types. Tensors are numbered in the order of their first use. Only single integer
    zeros are shared, so the number of bytes depends on the architecture and not on the weights.
    """
    graph = onnx.GraphProto()
    graph.CopyFrom(model.graph)
    separate_names_(graph)
    names = _short_names(graph)
    nodes = [_bare_node(node, names) for node in graph.node]
    tensors: dict[str, onnx.TensorProto] = {}
    stored = initialisers(graph)
    for node in graph.node:
        for name in read_names(node):
            if name in stored:
                tensors.setdefault(names[name], _bare_tensor(stored[name], names[name]))
    bare = helper.make_graph(nodes, "n", graph.input, graph.output, list(tensors.values()))
    others = sorted(_domains(graph) - {"", "ai.onnx"})
    opsets = [helper.make_opsetid("", OPSET), *(helper.make_opsetid(domain, 1) for domain in others)]
    stripped = helper.make_model(bare, ir_version=IR_VERSION, opset_imports=opsets, producer_name="")
    del stripped.metadata_props[:]
    return stripped


def _domains(graph: onnx.GraphProto) -> set[str]:
    """Return the domains of all nodes, also in branches."""
    inside = [_domains(inner) for node in graph.node for inner in inner_graphs(node)]
    return {node.domain for node in graph.node}.union(*inside)


def _short_names(graph: onnx.GraphProto) -> dict[str, str]:
    """Map old names to the shortest new ones, in the order of their first use."""
    names = {value.name: value.name for value in (*graph.input, *graph.output)}
    names[""] = ""
    shared, zeros = _shared_zeros(graph), dict[tuple[int, int], str]()
    fresh = filterfalse(frozenset(names).__contains__, _shortest_names())
    for node in graph.node:
        for name in _names(node):
            if name in names:
                continue
            zero = shared.get(name)
            if zero in zeros:
                names[name] = zeros[zero]
                continue
            names[name] = next(fresh)
            if zero is not None:
                zeros[zero] = names[name]
    return names


def _names(node: onnx.NodeProto) -> Iterator[str]:
    """Yield the names of a node's tensors, then those of its inner graphs."""
    yield from (*node.input, *node.output)
    for graph in inner_graphs(node):
        yield from (part.name for part in (*graph.input, *graph.initializer))
        for inner in graph.node:
            yield from _names(inner)
        yield from (value.name for value in graph.output)


def _shortest_names() -> Iterator[str]:
    """Yield `a`, `b`, ..., `Z`, `aa`, `ab`, and so on: a file repeats the name of each tensor two or three times."""
    for length in count(1):
        yield from map("".join, product(string.ascii_letters, repeat=length))


def _shared_zeros(graph: onnx.GraphProto) -> dict[str, tuple[int, int]]:
    """Return the graph and the type of each single integer zero, by name: equal ones of one graph are stored once."""
    found = {}
    for place, part in enumerate(every_graph(graph)):
        for tensor in part.initializer:
            kind = _kind_of_zero(tensor)
            if kind is not None:
                found[tensor.name] = place, kind
    return found


def _kind_of_zero(tensor: onnx.TensorProto) -> int | None:
    """Return the element type of a single integer zero.

    Other equal tensors are not shared, because sharing breaks fusion.
    """
    integer = tensor.data_type in (onnx.TensorProto.UINT8, onnx.TensorProto.INT8)
    if integer and not tensor.dims and not numpy_helper.to_array(tensor).any():
        return int(tensor.data_type)
    return None


def _bare_node(node: onnx.NodeProto, names: dict[str, str]) -> onnx.NodeProto:
    bare = onnx.NodeProto(op_type=node.op_type, domain=node.domain)
    bare.input.extend(names[name] for name in node.input)
    bare.output.extend(names[name] for name in node.output)
    for attribute in node.attribute:
        if not node.domain and _is_default(node.op_type, attribute):
            continue
        kept = bare.attribute.add()
        kept.CopyFrom(attribute)
        kept.doc_string = ""
        if attribute.HasField("g"):
            kept.g.CopyFrom(_bare_graph(attribute.g, names))
    return bare


def _bare_graph(graph: onnx.GraphProto, names: dict[str, str]) -> onnx.GraphProto:
    """Return the graph of a branch or of a loop's body with new names."""
    inputs, outputs = (
        [helper.make_value_info(names[value.name], value.type) for value in ends]
        for ends in (graph.input, graph.output)
    )
    read = {name for node in graph.node for name in read_names(node)} | {value.name for value in graph.output}
    tensors: dict[str, onnx.TensorProto] = {}
    for tensor in (tensor for tensor in graph.initializer if tensor.name in read):
        tensors.setdefault(names[tensor.name], _bare_tensor(tensor, names[tensor.name]))
    nodes = [_bare_node(node, names) for node in graph.node]
    return helper.make_graph(nodes, "n", inputs, outputs, list(tensors.values()))


def _is_default(operator: str, attribute: onnx.AttributeProto) -> bool:
    """Return True if the operator means the same without the attribute."""
    if operator == "Conv" and attribute.name in ("dilations", "strides", "pads"):
        return set(attribute.ints) == {int(attribute.name != "pads")}
    if operator == "Conv" and attribute.name == "kernel_shape":
        return True  # follows from the weights
    known = onnx.defs.get_schema(operator, OPSET).attributes.get(attribute.name)
    if known is None or not known.default_value.name:
        return False
    return bool(helper.get_attribute_value(known.default_value) == helper.get_attribute_value(attribute))


def _bare_tensor(tensor: onnx.TensorProto, name: str) -> onnx.TensorProto:
    """Return the tensor without comments; 64-bit integers, mostly sizes, with as few bytes as each needs."""
    if tensor.data_type == onnx.TensorProto.INT64:
        values = numpy_helper.to_array(tensor).reshape(-1).tolist()
        return onnx.TensorProto(dims=tensor.dims, data_type=tensor.data_type, int64_data=values, name=name)
    if tensor.HasField("raw_data"):
        return onnx.TensorProto(dims=tensor.dims, data_type=tensor.data_type, raw_data=tensor.raw_data, name=name)
    return numpy_helper.from_array(numpy_helper.to_array(tensor), name)
