"""Fixed net whose speed shows the machine's state. It is built in memory, with the same bytes everywhere."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

REFERENCE_NAME = "conv3x3-32x4-16x16"
"""Name of the net. Levels of different references are not comparable."""

_CHANNELS, _LAYERS, _SIDE = 32, 4, 16


def reference_net() -> bytes:
    """Return an ONNX file of four 3x3 convolutions, 32 channels at 16x16; `input` is uint8 (N, 1, 16, 16).

    A run takes about 0.15-0.25 ms. It is short on purpose, to show also states that only slow down each call.
    """
    generator = np.random.default_rng(0)
    nodes: list[NodeProto] = [helper.make_node("Cast", ["input"], ["0"], to=TensorProto.FLOAT)]
    weights: list[TensorProto] = []
    for layer in range(_LAYERS):
        inputs = _CHANNELS if layer else 1
        scale = 1.0 / np.sqrt(9 * inputs)
        values = generator.standard_normal((_CHANNELS, inputs, 3, 3)) * scale
        weights.append(numpy_helper.from_array(values.astype(np.float32), f"w{layer}"))
        nodes += [
            helper.make_node("Conv", [f"{layer}", f"w{layer}"], [f"c{layer}"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", [f"c{layer}"], [f"{layer + 1}"]),
        ]
    nodes.append(helper.make_node("GlobalAveragePool", [f"{_LAYERS}"], ["logits"]))
    return bytes(_model(nodes, weights).SerializeToString())


def _model(nodes: list[NodeProto], weights: list[TensorProto]) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        REFERENCE_NAME,
        [helper.make_tensor_value_info("input", TensorProto.UINT8, ["N", 1, _SIDE, _SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", _CHANNELS, 1, 1])],
        weights,
    )
    # Fixed versions, because onnx may write newer ones by default than the runtime loads.
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
