"""A name for what latency depends on: the graph that runs, without the values of its weights."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import onnx
from onnx import helper, numpy_helper

from nas_compress.devices.onnx_session import read_model


def structure_key(path: Path) -> str:
    """16 hexadecimal digits that files share whose graphs are one when the runtime has loaded them, trained or not.

    What is computed from stored tensors alone, such as weights from packed bytes, the runtime folds when it loads: of
    it the type and shape count, not how it is stored. Nodes, attributes and the ways of computed tensors count. Only
    of stored 64-bit integers the values count too: they are no weights but shapes and indices, such as the number of
    an attention's heads.
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
    """Descriptions of the tensors that are stored or folded, by name, and the nodes that run."""
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
            # what the inference does not know is told apart by what makes it
            constant |= {name: known.get(name, [node.op_type, name]) for name in node.output}
    return constant, running


def _numbered(nodes: list[onnx.NodeProto], constant: dict[str, list[Any]]) -> list[Any]:
    """The nodes with their tensors by number: how many names were used before says nothing."""
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
