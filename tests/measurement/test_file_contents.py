"""The bytes of a file by layer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from nas_compress.errors import RequestError
from nas_compress.measurement.file_contents import stored_layers


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
