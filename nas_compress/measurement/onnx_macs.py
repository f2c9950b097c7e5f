"""Multiply-adds of an ONNX file, from the shapes of its tensors in one run."""

from __future__ import annotations

from math import prod

import numpy as np
import onnx
from onnx import helper

from nas_compress.devices.onnx_session import start_session
from nas_compress.export.graph_edits import inner_graphs, replace_nodes_, separate_names_
from nas_compress.tasks.batch import Arrays

CONVOLUTIONS = ("Conv", "ConvInteger", "QLinearConv", "ConvTranspose")
RECURRENT = ("LSTM", "GRU", "RNN", "DynamicQuantizeLSTM")
PRODUCTS = ("MatMul", "MatMulInteger", "QLinearMatMul", "Gemm")
COUNTED = (*CONVOLUTIONS, *PRODUCTS, *RECURRENT)

WEIGHT_PLACE = {"QLinearConv": 3, "QLinearMatMul": 3}
"""Place of the weight among the inputs; 1 for other operators."""

Shape = tuple[int, ...]


def count_onnx_macs(content: bytes, inputs: Arrays) -> int:
    """Count the multiply-adds of one sample: convolutions, products and their biases, and recurrent weights per step.

    Of the branches of an If, the one with the most counts; those of a file with early exits add up to a sample that
    never exits. Operators inside loops do not count. content: bytes of the file. inputs: one sample.
    """
    model = onnx.load_model_from_string(content)
    separate_names_(model.graph)
    return _graph_macs(model.graph, _shapes(model, inputs))


def count_exit_macs(content: bytes, inputs: Arrays) -> tuple[int, ...]:
    """Count the multiply-adds of one sample that leaves at each exit of a file, the end last."""
    model = onnx.load_model_from_string(content)
    separate_names_(model.graph)
    shapes, graph = _shapes(model, inputs), model.graph
    found: list[int] = []
    while True:
        gates = [node for node in graph.node if node.op_type == "If"]
        found.append((found[-1] if found else 0) + _own_macs(graph, shapes))
        if not gates:
            return tuple(found)
        graph = max(inner_graphs(gates[0]), key=lambda branch: len(branch.node))


def _shapes(model: onnx.ModelProto, inputs: Arrays) -> dict[str, Shape]:
    """Return the shapes of all tensors that convolutions and products read or make."""
    graph = model.graph
    flat, tensors = _without_branches(graph)
    nodes = [node for node in flat if node.op_type in COUNTED]
    if not nodes:
        return {}
    wanted = list(dict.fromkeys(name for node in nodes for name in (*node.input, _output(node)) if name))
    known = {each.name for each in (*graph.output, *graph.input)}
    stored = {tensor.name: tuple(tensor.dims) for tensor in tensors}
    seen = [name for name in wanted if name not in known and name not in stored]
    runnable = onnx.ModelProto()
    runnable.CopyFrom(model)
    replace_nodes_(runnable.graph, flat)
    del runnable.graph.initializer[:]
    runnable.graph.initializer.extend(tensors)
    runnable.graph.output.extend(onnx.ValueInfoProto(name=name) for name in seen)
    session = start_session(runnable.SerializeToString(), optimised=False)
    names = [value.name for value in session.get_outputs()]
    values = dict(zip(names, session.run(names, dict(inputs)), strict=True))
    return {name: tuple(np.shape(value)) for name, value in (*values.items(), *inputs.items())} | stored


def _without_branches(graph: onnx.GraphProto) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Return nodes that compute every branch of each If, for the shapes of all tensors, and the stored tensors."""
    nodes: list[onnx.NodeProto] = []
    tensors = list(graph.initializer)
    for node in graph.node:
        if node.op_type != "If":
            nodes.append(node)
            continue
        for branch in inner_graphs(node):
            inner, stored = _without_branches(branch)
            nodes += inner
            tensors += stored
        nodes += [
            helper.make_node("Identity", [value.name], [name])
            for value, name in zip(branch.output, node.output, strict=True)
        ]
    return nodes, tensors


def _own_macs(graph: onnx.GraphProto, shapes: dict[str, Shape]) -> int:
    return sum(_macs(node, shapes) for node in graph.node if node.op_type in COUNTED)


def _graph_macs(graph: onnx.GraphProto, shapes: dict[str, Shape]) -> int:
    branches = [
        [_graph_macs(part, shapes) for part in inner_graphs(node)] for node in graph.node if node.op_type == "If"
    ]
    return _own_macs(graph, shapes) + sum(map(max, branches))


def _output(node: onnx.NodeProto) -> str:
    return next(str(name) for name in node.output if name)


def _macs(node: onnx.NodeProto, shapes: dict[str, Shape]) -> int:
    left, weight = shapes[node.input[0]], shapes[node.input[WEIGHT_PLACE.get(node.op_type, 1)]]
    if node.op_type in RECURRENT:
        return prod(left[:2]) * (prod(weight) + prod(shapes[node.input[2]]))
    out = prod(shapes[node.output[0]])
    if node.op_type in CONVOLUTIONS:
        has_bias = node.op_type != "ConvInteger" and len(node.input) > (8 if node.op_type == "QLinearConv" else 2)
        per_value = prod(left) if node.op_type == "ConvTranspose" else out
        return per_value * prod(weight[1:]) + (out if has_bias else 0)
    transposed = any(each.name == "transA" and each.i for each in node.attribute)
    depth = left[0] if transposed else left[-1]
    return out * depth + (out if node.op_type == "Gemm" and len(node.input) > 2 else 0)
