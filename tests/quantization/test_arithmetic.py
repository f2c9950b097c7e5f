from __future__ import annotations

import pytest
import torch

from nas_compress.models.integer_ops import integer_bias
from nas_compress.quantization.arithmetic import (
    activation_range,
    float8_weights,
    largest_activation,
    quantize_weights,
    weight_levels,
    weight_scale,
)
from nas_compress.quantization.modules import IntegerWeight


def test_integers_of_hand_worked_weights() -> None:
    weights = torch.tensor([[1.27, -0.64, 0.004], [0.0, 12.7, -12.7]])
    scale = weight_scale(weights, 8)
    assert torch.allclose(scale, torch.tensor([0.01, 0.1]), rtol=2**-11)
    assert quantize_weights(weights, scale, 8).tolist() == [[127, -64, 0], [0, 127, -127]]


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
def test_weights_return_within_half_a_step(bits: int) -> None:
    weights = torch.randn(16, 3, 3, 3, generator=torch.Generator().manual_seed(1))
    scale = weight_scale(weights, bits)
    integers = quantize_weights(weights, scale, bits)
    shaped = scale.reshape(-1, 1, 1, 1)
    assert ((integers * shaped - weights).abs() <= shaped * (0.5 + 2**-11 * weight_levels(bits)[1])).all()
    assert integers.abs().flatten(1).amax(dim=1).tolist() == [weight_levels(bits)[1]] * 16


def test_one_bit_is_the_sign_and_the_mean_magnitude() -> None:
    weights = torch.tensor([[0.5, -1.5, 1.0, 0.0], [-0.25, -0.25, -0.25, -0.25]])
    scale = weight_scale(weights, 1)
    assert scale.tolist() == [0.75, 0.25]
    assert quantize_weights(weights, scale, 1).tolist() == [[1, -1, 1, 1], [-1, -1, -1, -1]]
    # no other scale is nearer to the weights
    errors = [((weights[0] - s * torch.tensor([1.0, -1, 1, 1])) ** 2).sum() for s in (0.7, 0.75, 0.8)]
    assert errors[1] == min(errors)


def test_float8_keeps_three_bits_of_each_weight() -> None:
    weights = torch.randn(8, 27, generator=torch.Generator().manual_seed(2))
    codes, scale = float8_weights(weights)
    back = codes.view(torch.float8_e4m3fn).float() * scale[:, None]
    assert codes.dtype == torch.uint8 and codes.shape == weights.shape
    large = weights.abs() > 2e-2
    assert ((back - weights).abs()[large] <= weights.abs()[large] * (2**-4 + 2**-10)).all()


def test_scales_are_16_bit_floats_that_saturate() -> None:
    for weights in (torch.randn(5, 3) * 1e-9, torch.randn(5, 3) * 1e9, torch.randn(5, 3)):
        scale = weight_scale(weights, 4)
        assert torch.equal(scale, scale.half().float()) and (scale > 0).all() and scale.isfinite().all()


def test_channel_of_zeros_stays_zero_and_finite() -> None:
    weights = torch.stack([torch.zeros(4), torch.ones(4)])
    integers = quantize_weights(weights, weight_scale(weights, 8), 8)
    assert integers.tolist() == [[0] * 4, [127] * 4]


@pytest.mark.parametrize("bits", [8, 4, 1])
def test_layer_of_zeros_stays_next_to_zero_and_keeps_its_biases(bits: int) -> None:
    weights = torch.zeros(2, 4)
    scale = weight_scale(weights, bits)
    stored = IntegerWeight(quantize_weights(weights, scale, bits), scale, bits=bits, computed_as_float=False)()
    assert stored.abs().max() <= (1e-5 if bits == 1 else 0), "signs cannot be 0"
    bias = torch.tensor([3.0, -30.0])
    assert torch.equal(scale, scale.half().float()) and torch.allclose(integer_bias(bias, scale, 0.004), bias)


def test_tiny_channel_keeps_its_bias_within_int32() -> None:
    weights = torch.stack([torch.full((4,), 1e-30), torch.ones(4)])
    scale = weight_scale(weights, 8)
    assert 1.0 / (0.01 * float(scale.min())) < 2**31


@pytest.mark.parametrize(
    ("lowest", "highest", "zero_point"), [(0.0, 6.0, 0), (-1.0, 1.55, 100), (-3.0, -1.0, 255), (2.0, 5.0, 0)]
)
def test_range_is_covered_and_holds_zero_exactly(lowest: float, highest: float, zero_point: int) -> None:
    scale, found = activation_range(lowest, highest, 8)
    assert found == zero_point
    assert (0 - found) * scale <= min(lowest, 0) + scale / 2
    assert (largest_activation(8) - found) * scale >= max(highest, 0) - scale / 2
    assert scale == pytest.approx((max(highest, 0) - min(lowest, 0)) / 255)


def test_range_of_a_silent_tensor_is_usable() -> None:
    assert activation_range(0.0, 0.0, 8) == (1.0, 0)
