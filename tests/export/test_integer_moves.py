"""Moves of quantized values: on integers where every moved value has the same rounding, else as they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from nas_compress.export.integer_moves import move_integers_

STEPS = {"s": np.float32(0.5), "other": np.float32(0.25), "z": np.uint8(3)}
STORED = {
    "pads": np.array([0, 1, 1, 2], dtype=np.int64),
    "zero": np.float32(0.0),
    "one": np.float32(1.0),
    "starts": np.array([1], dtype=np.int64),
    "ends": np.array([3], dtype=np.int64),
    "axes": np.array([1], dtype=np.int64),
}


def rounded(name: str, step: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("QuantizeLinear", ["input", step, "z"], [f"{name}.q"]),
        helper.make_node("DequantizeLinear", [f"{name}.q", step, "z"], [name]),
    ]


def model_of(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, None]) for name in ("input", "output")]
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in {**STEPS, **STORED}.items()]
    graph = helper.make_graph([*rounded("a", "s"), *rounded("b", "other"), *nodes], "n", ends[:1], ends[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def answers(model: onnx.ModelProto) -> NDArray[np.float32]:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    values = np.linspace(-2, 20, 12, dtype=np.float32).reshape(3, 4)
    found: NDArray[np.float32] = session.run(None, {"input": values})[0]
    return found


def operators(model: onnx.ModelProto) -> Sequence[str]:
    return [node.op_type for node in model.graph.node]


MOVED = {
    "reflected": helper.make_node("Pad", ["a", "pads"], ["output"], mode="reflect"),
    "padded with zeros": helper.make_node("Pad", ["a", "pads"], ["output"]),
    "padded with a stored zero": helper.make_node("Pad", ["a", "pads", "zero"], ["output"], mode="constant"),
    "cut": helper.make_node("Slice", ["a", "starts", "ends", "axes"], ["output"]),
    "joined": helper.make_node("Concat", ["a", "a"], ["output"], axis=1),
}
KEPT = {
    "padded with ones": helper.make_node("Pad", ["a", "pads", "one"], ["output"]),
    "joined with other steps": helper.make_node("Concat", ["a", "b"], ["output"], axis=1),
    "joined with floats": helper.make_node("Concat", ["a", "input"], ["output"], axis=1),
    "computed": helper.make_node("Neg", ["a"], ["output"]),
}


@pytest.mark.parametrize("name", MOVED)
def test_values_of_one_rounding_move_as_integers(name: str) -> None:
    model = model_of(MOVED[name])
    expected, kind = answers(model), MOVED[name].op_type
    move_integers_(model.graph)
    assert operators(model) == ["QuantizeLinear", kind, "DequantizeLinear"]
    np.testing.assert_array_equal(answers(model), expected)


@pytest.mark.parametrize("name", KEPT)
def test_other_values_move_as_floats(name: str) -> None:
    model = model_of(KEPT[name])
    before = operators(model)
    move_integers_(model.graph)
    assert operators(model) == before


def test_a_zero_becomes_the_zero_point() -> None:
    model = model_of(MOVED["padded with zeros"])
    move_integers_(model.graph)
    (pad,) = (node for node in model.graph.node if node.op_type == "Pad")
    assert list(pad.input) == ["a.q", "pads", "z"]
    assert (answers(model)[:, 0] == 0).all()
