"""Moves of quantized values, such as padding, on integers in place of floats.

The runtime moves a DequantizeLinear behind transposes and reshapes by itself, but not behind these operators. A
convolution behind one of them would be computed in float.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import helper

from nas_compress.export.graph_edits import (
    drop_unread_nodes_,
    every_graph,
    makers,
    replace_nodes_,
    stored_values,
)

MOVED = "//moved"
"""Ending of the names of moved integers. Names of parameters and outputs do not contain it."""


def move_integers_(graph: onnx.GraphProto) -> None:
    """Write a Pad, Slice or Concat of equally quantized values as one of integers, and dequantize its result.

    Padding with zeros becomes padding with the zero point. A move in a branch needs the rounding in the same branch.
    """
    for part in every_graph(graph):
        _move_integers_(part)


def _move_integers_(graph: onnx.GraphProto) -> None:
    made_by, nodes = makers(graph), []
    for node in graph.node:
        sources = [made_by.get(name) for name in _moved(node, graph)]
        parameters = [tuple(source.input[1:]) for source in sources if source is not None]
        if any(not _is_dequantized(source) for source in sources) or not _are_equal(parameters, graph):
            nodes.append(node)
            continue
        moved = onnx.NodeProto()
        moved.CopyFrom(node)
        moved.input[: len(sources)] = [source.input[0] for source in sources if source is not None]
        (result,) = node.output
        if _pads_with_zeros(node, graph):
            del moved.input[2:]
            moved.input.append(parameters[0][1])
        moved.output[0] = result + MOVED
        made_by[result] = helper.make_node("DequantizeLinear", [result + MOVED, *parameters[0]], [result])
        nodes += [moved, made_by[result]]
    if len(nodes) > len(graph.node):
        replace_nodes_(graph, nodes)
        drop_unread_nodes_(graph)


def _are_equal(parameters: Sequence[tuple[str, ...]], graph: onnx.GraphProto) -> bool:
    """Return True for scales and zero points of equal values, under any names; False for none."""
    if len(set(parameters)) < 2:
        return bool(parameters)
    stored = [[stored_values(graph, name) for name in names] for names in parameters]
    return all(
        one is not None and other is not None and np.array_equal(one, other)
        for values in stored[1:]
        for one, other in zip(stored[0], values, strict=True)
    )


def _moved(node: onnx.NodeProto, graph: onnx.GraphProto) -> Sequence[str]:
    """Return the moved inputs of a node; none if it also makes values or is no such operator."""
    if node.op_type == "Concat":
        return list(node.input)
    moves = node.op_type == "Slice" or (
        node.op_type == "Pad" and (_mode(node) != b"constant" or _pads_with_zeros(node, graph))
    )
    return [node.input[0]] if moves else []


def _mode(node: onnx.NodeProto) -> bytes:
    return bytes(next((attribute.s for attribute in node.attribute if attribute.name == "mode"), b"constant"))


def _pads_with_zeros(node: onnx.NodeProto, graph: onnx.GraphProto) -> bool:
    """Return True for a Pad of all dimensions with the constant 0, the default."""
    if node.op_type != "Pad" or _mode(node) != b"constant" or len(node.input) > 3:
        return False
    value = stored_values(graph, node.input[2]) if len(node.input) == 3 and node.input[2] else 0.0
    return value is not None and not np.any(value)


def _is_dequantized(node: onnx.NodeProto | None) -> bool:
    return node is not None and node.op_type == "DequantizeLinear" and len(node.input) == 3 and not node.attribute
