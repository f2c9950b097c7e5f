from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto, helper, numpy_helper

from nas_compress.models.integer_ops import (
    dequantize_input,
    fake_quantize_activation,
    float8_weight,
    integer_bias,
    stored_weight,
)


def test_activation_ties_go_to_the_even_integer_and_ends_saturate() -> None:
    values = torch.tensor([0.5, 1.5, 2.5, -0.5, -1.5, -9.0, 900.0])
    assert fake_quantize_activation(values, 1.0, 1, 255).tolist() == [0, 2, 2, 0, -1, -1, 254]


def test_activation_rounds_as_the_runtime_does() -> None:
    scale, zero_point = float(np.float32(0.0371)), 77
    values = torch.linspace(-4, 8, 10_001)
    quantized = helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"])
    graph = helper.make_graph(
        [quantized, helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"])],
        "rounding",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])],
        [
            numpy_helper.from_array(np.array(scale, dtype=np.float32), "s"),
            numpy_helper.from_array(np.array(zero_point, dtype=np.uint8), "z"),
        ],
    )
    model = helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 20)])
    onnx.checker.check_model(model)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    runtime = session.run(None, {"x": values.numpy()})[0]
    assert np.array_equal(runtime, fake_quantize_activation(values, scale, zero_point, 255).numpy())


def test_raw_samples_are_the_quantized_input() -> None:
    samples = torch.tensor([[0, 5, 16]], dtype=torch.uint8)
    assert dequantize_input(samples, 0.5, 5).tolist() == [[-2.5, 0.0, 5.5]]


def test_each_output_channel_has_its_own_scale() -> None:
    integers = torch.tensor([[[[1]], [[2]]], [[[3]], [[-4]]]], dtype=torch.int8)
    floats = stored_weight(integers, torch.tensor([0.5, 2.0]), torch.zeros(0, dtype=torch.int8), 4, True)
    assert floats.flatten().tolist() == [0.5, 1.0, 6.0, -8.0]


def test_float8_bytes_are_read_as_e4m3() -> None:
    # sign 0, exponent 0111 (bias 7), mantissa 100: 1.5; and its negative
    codes = torch.tensor([[0b0_0111_100], [0b1_0111_100]], dtype=torch.uint8)
    assert float8_weight(codes, torch.tensor([1.0, 2.0])).tolist() == [[1.5], [-3.0]]


def test_biases_are_int32_multiples_of_both_scales() -> None:
    # steps 0.5 x (0.5, 0.5, 0.125, 1.0): 2.8, the tie 2.5, -4.8 and what no int32 holds
    bias, scale = torch.tensor([0.7, 0.625, -0.3, 2.0**31]), torch.tensor([0.5, 0.5, 0.125, 1.0])
    assert integer_bias(bias, scale, 0.5).tolist() == [0.75, 0.5, -0.3125, 2.0**30]
