"""Key of the graph that runs, without the values of its weights: latency depends on nothing else."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import onnx
from onnx import helper, numpy_helper

from nas_compress.devices.onnx_session import read_model


def structure_key(path: Path) -> str:
    """Return 16 hexadecimal digits, equal for files with the same loaded graph, trained or not.

    Nodes, attributes and the connections of computed tensors enter the key. Subgraphs of constants, such as weights
    from packed bytes, are folded at load time, so only their output type and shape enter. Of stored tensors, only
    64-bit integers enter by value, because they are shapes and indices, such as the number of an attention's heads.
    """
    model = read_model(path)
    constant, running = _fold(model)
    content = {
        "opset": sorted((opset.domain, opset.version) for opset in model.opset_import),
        "ends": [_end(value) for value in (*model.graph.input, *model.graph.output)],
        "nodes": _numbered(running, constant),
    }
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _fold(model: onnx.ModelProto) -> tuple[dict[str, list[Any]], list[onnx.NodeProto]]:
    """Return the descriptions of stored or folded tensors, by name, and the nodes that run."""
    constant = {tensor.name: _stored(tensor) for tensor in model.graph.initializer}
    inferred = onnx.shape_inference.infer_shapes(model).graph.value_info
    known = {value.name: _end(value)[1:] for value in inferred}
    running = []
    for node in model.graph.node:
        if not set(node.input) <= {*constant, ""}:
            running.append(node)
        elif node.op_type == "DequantizeLinear":  # not folded: the kernel after it reads the integers
            constant[node.output[0]] = [node.op_type, *(constant[name] for name in node.input)]
        else:
            # a tensor of unknown shape is identified by the node that computes it
            constant |= {name: known.get(name, [node.op_type, name]) for name in node.output}
    return constant, running


def _numbered(nodes: list[onnx.NodeProto], constant: dict[str, list[Any]]) -> list[Any]:
    """Return the nodes with numbered tensors, because names depend on the exporter."""
    numbers: dict[str, str] = {}

    def known(name: str) -> Any:
        return constant.get(name) or numbers.setdefault(name, str(len(numbers)))

    return [
        [
            node.domain,
            node.op_type,
            [known(name) for name in node.input],
            [known(name) for name in node.output],
            sorted((attribute.name, repr(helper.get_attribute_value(attribute))) for attribute in node.attribute),
        ]
        for node in nodes
    ]


def _stored(tensor: onnx.TensorProto) -> list[Any]:
    described: list[Any] = [tensor.data_type, list(tensor.dims)]
    if tensor.data_type == onnx.TensorProto.INT64:
        described.append(numpy_helper.to_array(tensor).tolist())
    return described


def _end(value: onnx.ValueInfoProto) -> list[Any]:
    kind = value.type.tensor_type
    return [value.name, kind.elem_type, [size.dim_param or size.dim_value for size in kind.shape.dim]]
