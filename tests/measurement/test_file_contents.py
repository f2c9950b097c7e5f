"""The bytes of a file by layer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from nas_compress.errors import RequestError
from nas_compress.measurement.file_contents import multiplied_weights, stored_layers, weight_contents


def write(path: Path, nodes: list[onnx.NodeProto], **stored: np.ndarray) -> Path:
    tensors = [numpy_helper.from_array(value, name) for name, value in stored.items()]
    given = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 4])
    told = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3])
    path.write_bytes(helper.make_model(helper.make_graph(nodes, "n", [given], [told], tensors)).SerializeToString())
    return path


def test_integer_weights_and_their_scale_belong_to_the_layer_that_multiplies_by_them(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["w"], ["w_float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["w_float", "scale"], ["weights"]),
        helper.make_node("MatMul", ["input", "weights"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["rectified"]),
        helper.make_node("Add", ["rectified", "bias"], ["logits"]),
    ]
    weights, scale, bias = np.ones((4, 3), np.int8), np.ones(3, np.float32), np.ones(3, np.float32)
    path = write(tmp_path / "m.onnx", nodes, w=weights, scale=scale, bias=bias)
    layers = stored_layers(path)
    assert [(layer.name, layer.size_bytes) for layer in layers] == [("MatMul 1", 12 + 12), ("Add 1", 12)]
    assert (layers[0].shape, layers[0].kind) == ((4, 3), "int8")


def test_what_quantizes_the_input_belongs_to_the_next_layer(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["input", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["x"]),
        helper.make_node("MatMul", ["x", "w"], ["logits"]),
    ]
    stored = {"s": np.float32(1), "z": np.uint8(0), "w": np.ones((4, 3), np.float32)}
    path = write(tmp_path / "m.onnx", nodes, **{name: np.asarray(value) for name, value in stored.items()})
    assert [(layer.name, layer.size_bytes) for layer in stored_layers(path)] == [("MatMul 1", 4 + 1 + 48)]


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_text("no model")
    with pytest.raises(RequestError, match="must be an ONNX model"):
        stored_layers(tmp_path / "m.onnx")


def branches(path: Path) -> Path:
    """Write a model that multiplies by 8-bit integers in one branch and by floats in the other."""
    integers, floats = np.array([[1, 0, -1]] * 4, dtype=np.int8), np.array([[0.5, 0.0, 0.0]] * 4, dtype=np.float32)
    then = helper.make_graph(
        [
            helper.make_node("Cast", ["w"], ["w_float"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["w_float", "scale"], ["weights"]),
            helper.make_node("MatMul", ["input", "weights"], ["one"]),
        ],
        "then",
        [],
        [helper.make_tensor_value_info("one", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(integers, "w")],
    )
    otherwise = helper.make_graph(
        [helper.make_node("MatMul", ["input", "w"], ["two"])],
        "otherwise",
        [],
        [helper.make_tensor_value_info("two", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(floats, "w")],
    )
    nodes = [
        helper.make_node("ReduceMax", ["input"], ["most"], keepdims=0),
        helper.make_node("Cast", ["most"], ["flag"], to=TensorProto.BOOL),
        helper.make_node("If", ["flag"], ["logits"], then_branch=then, else_branch=otherwise),
    ]
    given = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 4])
    told = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3])
    scale = numpy_helper.from_array(np.full(3, 0.5, dtype=np.float32), "scale")
    graph = helper.make_graph(nodes, "n", [given], [told], [scale])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    path.write_bytes(model.SerializeToString())
    return path


def test_weights_in_branches_count_with_their_own_bits(tmp_path: Path) -> None:
    path = branches(tmp_path / "m.onnx")
    contents = weight_contents(path)
    assert contents.float32_fraction == 0.5  # 12 integers in one branch, 12 floats under the same name in the other
    assert contents.zero_fraction == pytest.approx((4 + 8) / 24)
    decoded = sorted(weights[0].tolist() for weights in multiplied_weights(path))
    assert decoded == [[0.5, 0.0, -0.5], [0.5, 0.0, 0.0]]
    assert [(layer.name, layer.kind, layer.size_bytes) for layer in stored_layers(path)] == [
        ("MatMul 1", "float", 48),
        ("MatMul 2", "float", 12 + 12),
    ]


def test_a_loops_weights_are_found_in_its_body(tmp_path: Path) -> None:
    state = helper.make_tensor_value_info("state", TensorProto.FLOAT, ["N", 4])
    going, after = (
        helper.make_tensor_value_info("going", TensorProto.BOOL, []),
        helper.make_tensor_value_info("after", TensorProto.FLOAT, ["N", 4]),
    )
    step = helper.make_tensor_value_info("step", TensorProto.INT64, [])
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["state", "w"], ["after"]),
            helper.make_node("Identity", ["going"], ["goes_on"]),
        ],
        "body",
        [step, going, state],
        [helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []), after],
        [numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")],
    )
    stored = {"count": np.asarray(3, dtype=np.int64), "true": np.asarray(True)}
    loop = helper.make_node("Loop", ["count", "true", "input"], ["hidden"], body=body)
    path = write(tmp_path / "m.onnx", [loop, helper.make_node("MatMul", ["hidden", "v"], ["logits"])], **stored, v=ROW)
    contents = weight_contents(path)
    assert (contents.zero_fraction, contents.float32_fraction) == (pytest.approx(12 / 28), 1.0)
    assert len(multiplied_weights(path)) == 2


ROW = np.ones((4, 3), dtype=np.float32)
