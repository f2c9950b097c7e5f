"""Rewrites of linear layers for the runtime's integer kernels.

The runtime scales the float bias of a convolution itself, but does not match patterns through Flatten. A linear layer
on rows (n, inputs) must be a Gemm with explicit zero points, a Reshape and, if it has a bias, an int32 one; otherwise
it is silently computed in float. Exporters write a linear layer without a bias, such as the first of two thin ones, as
MatMul. A linear layer on more dimensions, such as tokens (n, tokens, inputs), stays a MatMul. Its integers must be
transposed before they are dequantized, because the runtime joins a later transpose with the product, in float.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from nas_compress.export.graph_edits import Array, drop_unread_nodes_, every_graph, makers, stored_values

ADDED = "//"
"""Separator in the names of added tensors. Names of parameters and outputs do not contain it."""

Makers = Mapping[str, onnx.NodeProto]
Bias = tuple[str, bytes]
"""Name of the float bias and bytes of its scale: one integer bias is shared by all layers with the same pair."""


def make_linear_layers_integer_(model: onnx.ModelProto) -> None:
    """Rewrite every product of quantized values and quantized weights, also in branches."""
    found = [_products(part) for part in every_graph(model.graph)]
    dimensions = _dimensions(model) if any(found) else {}
    for part, products in zip(every_graph(model.graph), found, strict=True):
        _rewrite_products_(part, products, dimensions)
        _make_gemms_integer_(part)
    drop_unread_nodes_(model.graph)


def _make_gemms_integer_(graph: onnx.GraphProto) -> None:
    made_by = makers(graph)
    written: dict[Bias, str] = {}
    for gemm in [node for node in graph.node if node.op_type == "Gemm"]:
        values, weights = _dequantized(gemm.input[0], made_by), made_by.get(gemm.input[1])
        if values is None or weights is None or weights.op_type != "DequantizeLinear":
            continue
        _reshape_instead_of_flatten_(gemm, graph, made_by)
        _write_zero_point_(weights, graph)
        _write_integer_bias_(gemm, values, weights, graph, written)


Products = list[tuple[onnx.NodeProto, onnx.NodeProto]]
"""Each MatMul of quantized values and the transpose of quantized weights, with the DequantizeLinear of its weights."""


def _products(graph: onnx.GraphProto) -> Products:
    made_by = makers(graph)
    found = []
    for node in (node for node in graph.node if node.op_type == "MatMul"):
        turned = made_by.get(node.input[1])
        weights = made_by.get(turned.input[0]) if turned is not None and turned.op_type == "Transpose" else None
        if turned is None or weights is None or weights.op_type != "DequantizeLinear":
            continue
        if _dequantized(node.input[0], made_by) is not None:
            found.append((node, weights))
    return found


def _rewrite_products_(graph: onnx.GraphProto, products: Products, dimensions: Mapping[str, int]) -> None:
    """Rewrite the products, on rows as a Gemm."""
    made_by = makers(graph)
    for node, weights in products:
        if dimensions.get(node.input[0]) == 2:
            node.CopyFrom(helper.make_node("Gemm", [node.input[0], weights.output[0]], [node.output[0]], transB=1))
        else:
            node.input[1] = _transposed(weights, graph, made_by)


def _transposed(weights: onnx.NodeProto, graph: onnx.GraphProto, made_by: dict[str, onnx.NodeProto]) -> str:
    """Add quantized weights (outputs, inputs) as (inputs, outputs), once; return the name."""
    _write_zero_point_(weights, graph)
    integers, name = weights.input[0], f"{weights.output[0]}{ADDED}transposed"
    if name not in made_by:
        turn = helper.make_node("Transpose", [integers], [f"{name}.integers"], perm=[1, 0])
        made_by[name] = helper.make_node("DequantizeLinear", [f"{name}.integers", *weights.input[1:]], [name], axis=1)
        place = list(graph.node).index(weights)
        graph.node.insert(place, made_by[name])
        graph.node.insert(place, turn)
    return name


def _dimensions(model: onnx.ModelProto) -> dict[str, int]:
    """Return the number of dimensions of each computed tensor, if shape inference finds it."""
    inferred = every_graph(onnx.shape_inference.infer_shapes(model).graph)
    values = [value for graph in inferred for value in graph.value_info if _has_shape(value)]
    return {value.name: len(value.type.tensor_type.shape.dim) for value in values}


def _has_shape(value: onnx.ValueInfoProto) -> bool:
    return bool(value.type.tensor_type.HasField("shape"))


def _dequantized(name: str, made_by: Makers) -> onnx.NodeProto | None:
    """Return the DequantizeLinear of a tensor, directly or before a flattening of each sample."""
    node = made_by.get(name)
    if node is not None and _flattens_samples(node, made_by):
        node = made_by.get(node.input[0])
    return node if node is not None and node.op_type == "DequantizeLinear" else None


def _flattens_samples(node: onnx.NodeProto, made_by: Makers) -> bool:
    """Return True for a node with one row per sample: a Flatten, or a Reshape of pooled (N, C, 1, 1)."""
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
    shape = _store(graph, f"{node.output[0]}{ADDED}shape", np.array([0, -1], dtype=np.int64))
    node.CopyFrom(helper.make_node("Reshape", [node.input[0], shape], [node.output[0]]))


def _write_zero_point_(weights: onnx.NodeProto, graph: onnx.GraphProto) -> None:
    if len(weights.input) < 3:
        scale = stored_values(graph, weights.input[1])
        zeros = np.zeros(0 if scale is None else scale.shape, dtype=np.int8)
        weights.input.append(_store(graph, f"{weights.output[0]}{ADDED}zero_point", zeros))


def _write_integer_bias_(
    gemm: onnx.NodeProto,
    values: onnx.NodeProto,
    weights: onnx.NodeProto,
    graph: onnx.GraphProto,
    written: dict[Bias, str],
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
    key = gemm.input[2], scale.tobytes()
    if key not in written:
        name = written[key] = f"{gemm.output[0]}{ADDED}bias"
        inputs = [_store(graph, f"{name}.integers", integers), _store(graph, f"{name}.scale", scale)]
        graph.node.insert(0, helper.make_node("DequantizeLinear", inputs, [name], axis=0))
    gemm.input[2] = written[key]


def _store(graph: onnx.GraphProto, name: str, values: Array) -> str:
    graph.initializer.append(numpy_helper.from_array(values, name))
    return name
