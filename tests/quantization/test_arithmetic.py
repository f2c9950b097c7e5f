from __future__ import annotations

import pytest
import torch

from nas_compress.quantization.arithmetic import (
    activation_range,
    largest_activation,
    largest_weight,
    quantize_weights,
    weight_scale,
)


def test_integers_of_hand_worked_weights() -> None:
    weights = torch.tensor([[1.27, -0.635, 0.004], [0.0, 12.7, -12.7]])
    scale = weight_scale(weights, 8)
    assert torch.allclose(scale, torch.tensor([0.01, 0.1]))
    assert quantize_weights(weights, scale, 8).tolist() == [[127, -64, 0], [0, 127, -127]]


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_weights_return_within_half_a_step(bits: int) -> None:
    weights = torch.randn(16, 3, 3, 3, generator=torch.Generator().manual_seed(1))
    scale = weight_scale(weights, bits)
    integers = quantize_weights(weights, scale, bits)
    shaped = scale.reshape(-1, 1, 1, 1)
    assert ((integers * shaped - weights).abs() <= shaped * 0.5001).all()
    assert integers.abs().flatten(1).amax(dim=1).tolist() == [largest_weight(bits)] * 16


def test_channel_of_zeros_stays_zero_and_finite() -> None:
    weights = torch.stack([torch.zeros(4), torch.ones(4)])
    integers = quantize_weights(weights, weight_scale(weights, 8), 8)
    assert integers.tolist() == [[0] * 4, [127] * 4]
    assert weight_scale(torch.zeros(2, 4), 8).tolist() == [1.0, 1.0]


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
