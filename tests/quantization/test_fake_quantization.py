from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from nas_compress.quantization.fake_quantization import binary_weights, learned_step, straight_through
from nas_compress.quantization.trainable_modules import LearnedStepActivation, RunningRangeActivation
from nas_compress.quantization.weight_quantizers import LargestWeight, LearnedStepWeight, SignWeight, WeightQuantizer


def test_learned_steps_gradients_by_hand() -> None:
    # step 0.5, integers -2 to 1: inside lie -0.4 (v/s = -0.8, rounds to -1) and 0.1 (0.2, to 0); -3 and 2 saturate
    values = torch.tensor([-3.0, -0.4, 0.1, 2.0], requires_grad=True)
    step = torch.tensor(0.5, requires_grad=True)
    rounded = learned_step(values, step, lowest=-2, highest=1, gradient_scale=0.25)
    assert rounded.tolist() == [-1.0, -0.5, 0.0, 0.5]
    (rounded * torch.tensor([1.0, 10.0, 100.0, 1000.0])).sum().backward()
    assert values.grad is not None and step.grad is not None
    assert values.grad.tolist() == [0.0, 10.0, 100.0, 0.0]
    # to the step: -2 below, 1 above, round(v/s) - v/s inside
    by_hand = 0.25 * (1 * -2 + 10 * (-1 + 0.8) + 100 * (0 - 0.2) + 1000 * 1)
    assert step.grad.item() == pytest.approx(by_hand, rel=1e-5)


def test_each_channel_gets_the_gradient_of_its_own_step() -> None:
    values = torch.tensor([[0.3, 9.0], [-9.0, 0.6]])
    steps = torch.tensor([[1.0], [2.0]], requires_grad=True)
    learned_step(values, steps, lowest=-2, highest=1, gradient_scale=1.0).sum().backward()
    assert steps.grad is not None
    assert torch.allclose(steps.grad, torch.tensor([[(0 - 0.3) + 1], [-2 + (0 - 0.3)]]))


def test_straight_through_moves_values_and_no_step() -> None:
    values, step = torch.tensor([0.4, 7.0], requires_grad=True), torch.tensor(1.0, requires_grad=True)
    straight_through(values, step, lowest=-2, highest=1).sum().backward()
    assert values.grad is not None and values.grad.tolist() == [1.0, 0.0]
    assert step.grad is None


def test_binary_weights_and_their_gradient_by_hand() -> None:
    weights = torch.tensor([[0.5, -1.5, 0.0, 2.0], [0.1, 0.1, -0.1, -0.1]], requires_grad=True)
    rounded = binary_weights(weights)
    assert torch.allclose(rounded, torch.tensor([[1.0, -1.0, 1.0, 1.0], [0.1, 0.1, -0.1, -0.1]]))
    rounded.backward(torch.tensor([[1.0, 1.0, 1.0, 1.0], [1.0, 2.0, 3.0, 4.0]]))
    assert weights.grad is not None
    # 1/n + mean magnitude where |w| <= 1: 1/4 + 1 and 1/4, then 1/4 + 0.1
    assert torch.allclose(weights.grad[0], torch.tensor([1.25, 0.25, 1.25, 0.25]))
    assert torch.allclose(weights.grad[1], 0.35 * torch.tensor([1.0, 2.0, 3.0, 4.0]))


def _quantizers(weights: torch.Tensor) -> list[WeightQuantizer]:
    every = [LearnedStepWeight(weights, bits) for bits in (8, 6, 4, 3, 2)]
    return [*every, *(LargestWeight(bits) for bits in (8, 4, 2)), SignWeight()]


@pytest.mark.parametrize("shape", [(6, 5, 3, 3), (7, 1, 3, 3), (9, 4)])
def test_the_integers_are_those_of_the_forward_pass(shape: tuple[int, ...]) -> None:
    weights = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    for quantizer in _quantizers(weights):
        scale = quantizer.scale(weights).reshape(-1, *[1] * (weights.dim() - 1))
        assert torch.allclose(quantizer.integers(weights) * scale, quantizer(weights), atol=1e-6)


def test_a_channel_of_zeros_stays_finite() -> None:
    weights = nn.Parameter(torch.cat([torch.zeros(1, 4), torch.ones(1, 4)]))
    for quantizer in _quantizers(weights.detach()):
        weights.grad = None
        rounded = quantizer(weights)
        rounded.sum().backward()
        assert rounded.isfinite().all() and weights.grad is not None and weights.grad.isfinite().all()
        assert rounded[0].abs().max() < 1e-2


def test_the_learned_scale_starts_where_rounding_hurts_least() -> None:
    weights = torch.randn(4, 200, generator=torch.Generator().manual_seed(5))
    quantizer = LearnedStepWeight(weights, 2)
    error = (quantizer(weights) - weights).square().sum()
    for factor in (0.8, 1.25):
        with torch.no_grad():
            quantizer.log_step.add_(math.log(factor))
        assert (quantizer(weights) - weights).square().sum() > error
        with torch.no_grad():
            quantizer.log_step.sub_(math.log(factor))


def test_a_running_range_follows_the_batches_and_stands_in_evaluation() -> None:
    point = RunningRangeActivation(0.0, 1.0, bits=8)
    point.train()(torch.tensor([[-1.0, 3.0]]))
    assert float(point.lowest) == pytest.approx(-0.01) and float(point.highest) == pytest.approx(1.02)
    point.eval()(torch.tensor([[-100.0, 100.0]]))
    assert float(point.highest) == pytest.approx(1.02)


@pytest.mark.parametrize("bits", [8, 4])
def test_activations_round_as_the_frozen_ones_do(bits: int) -> None:
    values = torch.linspace(-2, 5, 999)
    for point in (LearnedStepActivation(7 / (2**bits - 1), 4, bits=bits), RunningRangeActivation(-2.0, 5.0, bits=bits)):
        scale, zero_point = point.eval().scale_and_zero_point()
        integers = (torch.round(values / scale) + zero_point).clamp(0, 2**bits - 1)
        assert torch.allclose(point(values), (integers - zero_point) * scale, atol=1e-5)
