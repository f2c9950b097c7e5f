"""A name for what latency depends on: the graph without the values of its weights."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import onnx
from onnx import helper, numpy_helper

from nas_compress.measurement.session import read_model


def structure_key(path: Path) -> str:
    """16 hexadecimal digits that files of one architecture and one set of bit-widths share, trained or not.

    Nodes, attributes, the ways of computed tensors and the types and shapes of stored ones count; stored
    values do not, nor whether two equal ones are stored once. Only of 64-bit integers the values count too: they
    are no weights but shapes and indices, such as the number of an attention's heads.
    """
    model = read_model(path)
    stored = {tensor.name: _stored(tensor) for tensor in model.graph.initializer}
    content = {
        "opset": sorted((opset.domain, opset.version) for opset in model.opset_import),
        "ends": [_end(value) for value in (*model.graph.input, *model.graph.output)],
        "nodes": [_node(node, stored) for node in model.graph.node],
    }
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _stored(tensor: onnx.TensorProto) -> list[Any]:
    values = numpy_helper.to_array(tensor).tolist() if tensor.data_type == onnx.TensorProto.INT64 else []
    return [tensor.data_type, list(tensor.dims), values]


def _end(value: onnx.ValueInfoProto) -> list[Any]:
    kind = value.type.tensor_type
    return [value.name, kind.elem_type, [size.dim_param or size.dim_value for size in kind.shape.dim]]


def _node(node: onnx.NodeProto, stored: dict[str, list[Any]]) -> list[Any]:
    attributes = sorted((attribute.name, repr(helper.get_attribute_value(attribute))) for attribute in node.attribute)
    inputs = [stored.get(name, name) for name in node.input]
    return [node.domain, node.op_type, inputs, list(node.output), attributes]
