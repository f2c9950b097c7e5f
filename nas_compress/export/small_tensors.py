"""Scales and biases as 16-bit floats in one stored tensor: beside packed weights they are what a file weighs."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from nas_compress.export.graph_edits import initialisers, replace_nodes_

Key = tuple[int, ...]


def share_halves_(graph: onnx.GraphProto) -> None:
    """Let all 16-bit tensors (n, 1, ...) that are only cast to 32 bits be pieces of one, cast once and split.

    The runtime folds either form; the shared one saves two descriptions a tensor. No value changes.
    """
    stored = initialisers(graph)
    groups: dict[Key, dict[str, onnx.NodeProto]] = {}
    instead: dict[str, str] = {}
    for node in graph.node:
        if _casts_half(node, stored) and set(key := tuple(stored[node.input[0]].dims)[1:]) <= {1}:
            first = groups.setdefault(key, {}).setdefault(node.input[0], node)
            instead[node.output[0]] = first.output[0]
    kept = [node for node in graph.node if node.output[0] not in instead]
    for node in kept:
        for place, name in enumerate(node.input):
            node.input[place] = instead.get(name, name)
    made = [node for key, casts in groups.items() for node in _split_one(graph, key, list(casts.values()), stored)]
    replace_nodes_(graph, made + kept)


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
