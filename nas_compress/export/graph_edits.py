"""Small exact edits of an ONNX graph and of its branches, in place, for uniform graphs from both exporters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[tuple[int, ...], np.dtype[Any]]
Key = tuple[int, ...]
"""Sizes of a stored tensor without the first."""


def inline_constants_(graph: onnx.GraphProto) -> None:
    """Turn Constant nodes, reshaped constants and aliases of stored tensors into initialisers, which are smaller."""
    for part in every_graph(graph):
        _inline_constants_(part)


def _inline_constants_(graph: onnx.GraphProto) -> None:
    kept = []
    outputs = {value.name for value in graph.output}  # the runtime wants a node behind each output of a branch
    stored: dict[str, Array] = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        value = _constant_value(node, stored)
        if value is None or outputs.intersection(node.output):
            kept.append(node)
        else:
            stored[node.output[0]] = value
            graph.initializer.append(numpy_helper.from_array(value, node.output[0]))
    replace_nodes_(graph, kept)


def pool_over_whole_planes_(graph: onnx.GraphProto) -> None:
    """Write a mean over height and width as GlobalAveragePool, which alone has an integer kernel."""
    for part in every_graph(graph):
        _pool_over_whole_planes_(part)


def _pool_over_whole_planes_(graph: onnx.GraphProto) -> None:
    values = initialisers(graph)
    for node in graph.node:
        if node.op_type != "ReduceMean" or len(node.input) < 2 or node.input[1] not in values:
            continue
        axes = numpy_helper.to_array(values[node.input[1]]).tolist()
        if sorted(axes) in ([-2, -1], [2, 3]) and _keeps_dimensions(node):
            node.CopyFrom(helper.make_node("GlobalAveragePool", [node.input[0]], [node.output[0]]))


def share_halves_(graph: onnx.GraphProto) -> None:
    """Join all 16-bit tensors (n, 1, ...) that are only cast to 32 bits, cast them once and split the result.

    The runtime folds both forms; the joint form saves two descriptions per tensor. No value changes. Tensors of a
    branch are joined inside the branch.
    """
    for part in every_graph(graph):
        _share_halves_(part)


def _share_halves_(graph: onnx.GraphProto) -> None:
    stored = initialisers(graph)
    groups: dict[Key, dict[str, onnx.NodeProto]] = {}
    instead: dict[str, str] = {}
    for node in graph.node:
        if _casts_half(node, stored) and set(key := tuple(stored[node.input[0]].dims)[1:]) <= {1}:
            first = groups.setdefault(key, {}).setdefault(node.input[0], node)
            instead[node.output[0]] = first.output[0]
    kept = [node for node in graph.node if node.output[0] not in instead]
    for node in kept:
        rename_inputs_(node, instead)
    made = [node for key, casts in groups.items() for node in _split_one(graph, key, list(casts.values()), stored)]
    replace_nodes_(graph, made + kept)


def drop_unread_nodes_(graph: onnx.GraphProto) -> None:
    """Remove nodes without a reader among other nodes and outputs; a node that only a branch reads stays."""
    for part in every_graph(graph):
        _drop_unread_nodes_(part)


def _drop_unread_nodes_(graph: onnx.GraphProto) -> None:
    read = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):
        if read.intersection(node.output):
            read.update(read_names(node))
            kept.append(node)
    replace_nodes_(graph, kept[::-1])


def every_graph(graph: onnx.GraphProto) -> list[onnx.GraphProto]:
    """Return the graph and those of its branches and loops at any depth, inner ones first.

    An edit that replaces the nodes of a graph ends the life of its inner graphs, so these must be edited before it.
    """
    inner = [part for node in graph.node for branch in inner_graphs(node) for part in every_graph(branch)]
    return [*inner, graph]


def separate_names_(graph: onnx.GraphProto) -> None:
    """Give the tensors of each inner graph names that no other graph has.

    Edits of two graphs may add tensors of one name, which a reader could take for each other.
    """
    taken = {value.name for value in (*graph.input, *graph.output)} | _made_names(graph)
    _separate_names_(graph, {}, taken)


def _separate_names_(graph: onnx.GraphProto, names: Mapping[str, str], taken: set[str]) -> None:
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = names.get(name, name)
        for place, name in enumerate(node.output):
            node.output[place] = names.get(name, name)
        for inner in inner_graphs(node):
            own = dict(names)
            for name in sorted(_made_names(inner) | {value.name for value in inner.input}):
                own[name] = _free_name(name, taken)
            for named in (*inner.initializer, *inner.input, *inner.output):
                named.name = own.get(named.name, named.name)
            _separate_names_(inner, own, taken)


def _made_names(graph: onnx.GraphProto) -> set[str]:
    computed = {name for node in graph.node for name in node.output if name}
    return computed | {tensor.name for tensor in graph.initializer}


def _free_name(name: str, taken: set[str]) -> str:
    number, free = 1, name
    while free in taken:
        number, free = number + 1, f"{name}~{number}"
    taken.add(free)
    return free


def inner_graphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """Return the branches of a node, or a loop's body."""
    return [
        graph
        for attribute in node.attribute
        for graph in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]
    ]


def read_names(node: onnx.NodeProto) -> list[str]:
    """Return the names of all tensors that a node reads, also in its inner graphs, with those made there."""
    names = list(node.input)
    for graph in inner_graphs(node):
        names += [name for inner in graph.node for name in read_names(inner)]
        names += [value.name for value in graph.output]
    return names


def rename_inputs_(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    """Let a node and its inner graphs read other tensors. names: new names by old ones."""
    for place, name in enumerate(node.input):
        node.input[place] = names.get(name, name)
    for graph in inner_graphs(node):
        for inner in graph.node:
            rename_inputs_(inner, names)


def replace_nodes_(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    """Replace all nodes of the graph."""
    copies = []
    for node in nodes:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copies.append(copy)
    del graph.node[:]
    graph.node.extend(copies)


def initialisers(graph: onnx.GraphProto) -> dict[str, TensorProto]:
    """Return the graph's stored tensors by name."""
    return {tensor.name: tensor for tensor in graph.initializer}


def stored_values(graph: onnx.GraphProto, name: str) -> Array | None:
    """Return the values of a tensor if it is stored, or cast from a stored one to 32-bit floats; else None."""
    stored = initialisers(graph)
    if name in stored:
        return numpy_helper.to_array(stored[name])
    made = makers(graph).get(name)
    if made is not None and made.op_type == "Cast" and made.attribute[0].i == TensorProto.FLOAT:
        source = stored.get(made.input[0])
        return None if source is None else numpy_helper.to_array(source).astype(np.float32)
    return None


def makers(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    """Return the computing node of each tensor, by the tensor's name."""
    return {name: node for node in graph.node for name in node.output}


def _constant_value(node: onnx.NodeProto, stored: Mapping[str, Array]) -> Array | None:
    if node.op_type == "Constant" and node.attribute[0].name == "value":
        return numpy_helper.to_array(node.attribute[0].t)
    if node.op_type == "Constant" and node.attribute[0].name == "value_ints":
        return np.array(node.attribute[0].ints, dtype=np.int64)
    if node.op_type == "Identity" and node.input[0] in stored:
        return stored[node.input[0]]
    if node.op_type == "Reshape" and all(name in stored for name in node.input):
        return stored[node.input[0]].reshape(stored[node.input[1]].tolist())
    if node.op_type == "Unsqueeze" and all(name in stored for name in node.input):
        return np.expand_dims(stored[node.input[0]], tuple(stored[node.input[1]].tolist()))
    if node.op_type in ("Cast", "Sqrt") and node.input[0] in stored:
        return _scale_value(node, stored[node.input[0]])
    return None


def _scale_value(node: onnx.NodeProto, value: Array) -> Array | None:
    """Return the scale of attention scores, exported as a float64 cast to float32, or its square root."""
    if node.op_type == "Sqrt":
        return np.sqrt(value)
    from_double = value.dtype == np.float64 and node.attribute[0].i == TensorProto.FLOAT
    return value.astype(np.float32) if from_double else None


def _keeps_dimensions(node: onnx.NodeProto) -> bool:
    return all(attribute.i == 1 for attribute in node.attribute if attribute.name == "keepdims")


def _casts_half(node: onnx.NodeProto, stored: dict[str, onnx.TensorProto]) -> bool:
    return (
        node.op_type == "Cast"
        and node.input[0] in stored
        and stored[node.input[0]].data_type == TensorProto.FLOAT16
        and len(stored[node.input[0]].dims) > 0
        and node.attribute[0].i == TensorProto.FLOAT
    )


def _split_one(
    graph: onnx.GraphProto, key: Key, casts: list[onnx.NodeProto], stored: dict[str, onnx.TensorProto]
) -> list[onnx.NodeProto]:
    if len(casts) == 1:
        return casts
    name = f"halves{list(key)}"
    parts = [numpy_helper.to_array(stored[cast.input[0]]) for cast in casts]
    sizes = np.array([len(part) for part in parts], dtype=np.int64)
    graph.initializer.append(numpy_helper.from_array(np.concatenate(parts), name))
    graph.initializer.append(numpy_helper.from_array(sizes, f"{name}.sizes"))
    outputs = [cast.output[0] for cast in casts]
    return [
        helper.make_node("Cast", [name], [f"{name}.floats"], to=TensorProto.FLOAT),
        helper.make_node("Split", [f"{name}.floats", f"{name}.sizes"], outputs, axis=0),
    ]
