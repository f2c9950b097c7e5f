"""Products of integers whose ranges the file finds while it runs: DynamicQuantizeLinear and MatMulInteger.

The runtime joins both to one operator, also if the integers of the weights are unpacked when it loads the file.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper

from nas_compress.export.graph_edits import drop_unread_nodes_, every_graph, makers, replace_nodes_
from nas_compress.export.unpack_nodes import Nodes, TensorStore

Makers = Mapping[str, onnx.NodeProto]


def multiply_in_own_ranges_(graph: onnx.GraphProto) -> None:
    """Rewrite each linear layer on values of DynamicQuantizeLinear with integer weights, also in branches.

    A convolution of such values or of raw integers in the same graph is rewritten too, because no rounding follows it.
    """
    for part in every_graph(graph):
        if not any(node.op_type == "DynamicQuantizeLinear" for node in part.node):
            continue
        made_by, nodes, store = makers(part), list[onnx.NodeProto](), TensorStore(part)
        turned: set[str] = set()
        for node in part.node:
            linear, convolution = _factors(node, made_by), _convolved(node, made_by)
            if linear is not None:
                nodes += _written(node, *linear, turned)
            elif convolution is not None:
                nodes += _written_convolution(node, *convolution, store)
            else:
                nodes.append(node)
        replace_nodes_(part, nodes)
        drop_unread_nodes_(part)


def _factors(node: onnx.NodeProto, made_by: Makers) -> tuple[onnx.NodeProto, onnx.NodeProto] | None:
    """Return the DequantizeLinear of both factors of a linear layer; None for any other node."""
    if node.op_type not in ("MatMul", "Gemm"):
        return None
    values, weights = made_by.get(node.input[0]), made_by.get(node.input[1])
    if weights is not None and node.op_type == "MatMul":
        weights = made_by.get(weights.input[0]) if weights.op_type == "Transpose" else None
    if values is None or weights is None or {values.op_type, weights.op_type} != {"DequantizeLinear"}:
        return None
    source = made_by.get(values.input[0])
    return (values, weights) if source is not None and source.op_type == "DynamicQuantizeLinear" else None


def _convolved(node: onnx.NodeProto, made_by: Makers) -> tuple[onnx.NodeProto, onnx.NodeProto] | None:
    """Return the DequantizeLinear of both factors of a convolution of integers; None for any other node."""
    if node.op_type != "Conv":
        return None
    values, weights = made_by.get(node.input[0]), made_by.get(node.input[1])
    if values is None or weights is None or {values.op_type, weights.op_type} != {"DequantizeLinear"}:
        return None
    source = made_by.get(values.input[0])
    return (values, weights) if source is None or source.op_type == "DynamicQuantizeLinear" else None


def _written_convolution(
    node: onnx.NodeProto, values: onnx.NodeProto, weights: onnx.NodeProto, store: TensorStore
) -> Nodes:
    at, column = node.output[0], store.constant([-1, 1, 1], np.int64)
    product = helper.make_node("ConvInteger", [values.input[0], weights.input[0], values.input[2]], [f"{at}//sums"])
    product.attribute.extend(node.attribute)
    scaled = f"{at}//scaled" if len(node.input) > 2 else at
    nodes = [
        product,
        helper.make_node("Cast", [f"{at}//sums"], [f"{at}//floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", [values.input[1], weights.input[1]], [f"{at}//steps"]),
        helper.make_node("Reshape", [f"{at}//steps", column], [f"{at}//scale"]),
        helper.make_node("Mul", [f"{at}//floats", f"{at}//scale"], [scaled]),
    ]
    if len(node.input) > 2:
        nodes += [
            helper.make_node("Reshape", [node.input[2], column], [f"{at}//bias"]),
            helper.make_node("Add", [scaled, f"{at}//bias"], [at]),
        ]
    return nodes


def _written(node: onnx.NodeProto, values: onnx.NodeProto, weights: onnx.NodeProto, turned: set[str]) -> Nodes:
    at, integers = node.output[0], f"{weights.input[0]}//turned"
    nodes: Nodes = []
    if integers not in turned:
        turned.add(integers)
        nodes.append(helper.make_node("Transpose", [weights.input[0]], [integers], perm=[1, 0]))
    bias = node.input[2] if len(node.input) > 2 else ""
    scaled = f"{at}//scaled" if bias else at
    nodes += [
        helper.make_node("MatMulInteger", [values.input[0], integers, values.input[2]], [f"{at}//sums"]),
        helper.make_node("Cast", [f"{at}//sums"], [f"{at}//floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", [values.input[1], weights.input[1]], [f"{at}//scale"]),
        helper.make_node("Mul", [f"{at}//floats", f"{at}//scale"], [scaled]),
    ]
    return [*nodes, helper.make_node("Add", [scaled, bias], [at])] if bias else nodes
