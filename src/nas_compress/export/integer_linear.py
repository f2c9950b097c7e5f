"""Linear layers written so that the runtime computes them in integers.

It scales a convolution's float bias itself and looks through no Flatten; for a linear layer it asks for
an int32 bias, written out zero points and a Reshape, and else computes in float without a word.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from nas_compress.export.graph import Array, drop_unread_nodes_, makers, stored_values

Makers = Mapping[str, onnx.NodeProto]


def make_linear_layers_integer_(graph: onnx.GraphProto) -> None:
    """Rewrite every Gemm of quantized values and quantized weights; the others stay as they are."""
    made_by = makers(graph)
    for gemm in [node for node in graph.node if node.op_type == "Gemm"]:
        values, weights = _dequantized(gemm.input[0], made_by), made_by.get(gemm.input[1])
        if values is None or weights is None or weights.op_type != "DequantizeLinear":
            continue
        _reshape_instead_of_flatten_(gemm, graph, made_by)
        _write_zero_point_(weights, graph)
        _write_integer_bias_(gemm, values, weights, graph)
    drop_unread_nodes_(graph)


def _dequantized(name: str, made_by: Makers) -> onnx.NodeProto | None:
    """The DequantizeLinear that a tensor comes from, seen through a flattening of each sample."""
    node = made_by.get(name)
    if node is not None and _flattens_samples(node, made_by):
        node = made_by.get(node.input[0])
    return node if node is not None and node.op_type == "DequantizeLinear" else None


def _flattens_samples(node: onnx.NodeProto, made_by: Makers) -> bool:
    """Whether the answer is one row a sample: a Flatten, or a Reshape of pooled (N, C, 1, 1)."""
    if node.op_type == "Flatten":
        return all(attribute.i == 1 for attribute in node.attribute)
    history = [node.op_type]
    while len(history) < 4 and node.input and node.input[0] in made_by:
        node = made_by[node.input[0]]
        history.append(node.op_type)
    return history == ["Reshape", "DequantizeLinear", "QuantizeLinear", "GlobalAveragePool"]


def _reshape_instead_of_flatten_(gemm: onnx.NodeProto, graph: onnx.GraphProto, made_by: Makers) -> None:
    node = made_by[gemm.input[0]]
    if node.op_type == "DequantizeLinear":
        return
    shape = _store(graph, f"{node.output[0]}.shape", np.array([0, -1], dtype=np.int64))
    node.CopyFrom(helper.make_node("Reshape", [node.input[0], shape], [node.output[0]]))


def _write_zero_point_(weights: onnx.NodeProto, graph: onnx.GraphProto) -> None:
    if len(weights.input) < 3:
        scale = stored_values(graph, weights.input[1])
        zeros = np.zeros(0 if scale is None else scale.shape, dtype=np.int8)
        weights.input.append(_store(graph, f"{weights.output[0]}.zero_point", zeros))


def _write_integer_bias_(
    gemm: onnx.NodeProto, values: onnx.NodeProto, weights: onnx.NodeProto, graph: onnx.GraphProto
) -> None:
    """Store the bias as int32 in units of (scale of the values) x (scale of the weights)."""
    if len(gemm.input) < 3:
        return
    bias, limits = stored_values(graph, gemm.input[2]), np.iinfo(np.int32)
    scales = [stored_values(graph, node.input[1]) for node in (values, weights)]
    if bias is None or scales[0] is None or scales[1] is None:
        return
    scale = (scales[0] * scales[1]).astype(np.float32)
    integers = np.clip(np.rint(bias / scale.astype(np.float64)), limits.min, limits.max).astype(np.int32)
    name = f"{gemm.output[0]}.bias"
    inputs = [_store(graph, f"{name}.integers", integers), _store(graph, f"{name}.scale", scale)]
    graph.node.insert(0, helper.make_node("DequantizeLinear", inputs, [name], axis=0))
    gemm.input[2] = name


def _store(graph: onnx.GraphProto, name: str, values: Array) -> str:
    graph.initializer.append(numpy_helper.from_array(values, name))
    return name
