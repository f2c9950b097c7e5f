"""How many of a file's weights are 0: counted in the file itself, whatever it stores them as."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from nas_compress.devices.onnx_session import read_model, start_session

MULTIPLYING = frozenset({"Conv", "Gemm", "MatMul"})
"""Operators whose second input is a weight, where it follows from what the file stores."""


def weight_zero_fraction(path: Path) -> float:
    """The fraction of the weights of convolutions and products that are 0 in the file; 0.0 where it has none.

    A tensor that several operators read counts once. RequestError where the file is no model.
    """
    weights = multiplied_weights(path)
    count = sum(weight.size for weight in weights)
    return float(sum(np.count_nonzero(weight == 0) for weight in weights) / count) if count else 0.0


def multiplied_weights(path: Path) -> list[NDArray[Any]]:
    """The weights that the file's convolutions and products multiply with, decoded as the runtime decodes them.

    They are computed from stored tensors by the file's own nodes; zeros that a runtime's layout adds are not in them.
    """
    model = read_model(path)
    constant = {tensor.name for tensor in model.graph.initializer} | {""}
    decoding, wanted = [], []
    for node in model.graph.node:
        if constant.issuperset(node.input):
            constant.update(node.output)
            decoding.append(node)
        elif node.op_type in MULTIPLYING and node.input[1] in constant:
            wanted.append(node.input[1])
    return _decoded(model, decoding, list(dict.fromkeys(wanted)))


def _decoded(model: onnx.ModelProto, nodes: list[onnx.NodeProto], wanted: list[str]) -> list[NDArray[Any]]:
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    plain = [numpy_helper.to_array(stored[name]) for name in wanted if name in stored]
    outputs = [helper.make_empty_tensor_value_info(name) for name in wanted if name not in stored]
    if not outputs:
        return plain
    part = helper.make_model(
        helper.make_graph(nodes, "weights", [], outputs, initializer=list(stored.values())),
        opset_imports=list(model.opset_import),
        ir_version=model.ir_version,
    )
    return [*plain, *start_session(part.SerializeToString()).run(None, {})]
