"""How a layer in training rounds its weights: by a learned step, by its largest weight, or to the sign alone."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from nas_compress.quantization import arithmetic
from nas_compress.quantization.fake_quantization import binary_weights, learned_step, straight_through


class WeightQuantizer(nn.Module, ABC):
    """Rounds the weights of one layer, (outputs, ...), with a scale per output channel."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = bits

    @abstractmethod
    def forward(self, weights: Tensor) -> Tensor:
        """The rounded weights, float32, with gradients for training."""

    @abstractmethod
    def scale(self, weights: Tensor) -> Tensor:
        """The scale (outputs,) with which `forward` rounds these weights now."""

    def integers(self, weights: Tensor) -> Tensor:
        """The int8 integers that `forward` rounds these weights to."""
        return arithmetic.quantize_weights(weights, self.scale(weights), self.bits)


class LearnedStepWeight(WeightQuantizer):
    """Learned step size (Esser et al. 2020, arXiv 1902.08153), one per output channel.

    The step is learned by its logarithm: it stays positive, and an optimiser with steps of equal size changes it by an
    equal fraction in every layer. It starts where rounding hurts the given weights least.
    """

    def __init__(self, weights: Tensor, bits: int) -> None:
        super().__init__(bits)
        self.log_step = nn.Parameter(arithmetic.nearest_scale(weights, bits).log())

    def forward(self, weights: Tensor) -> Tensor:
        """The rounded weights."""
        lowest, highest = arithmetic.weight_levels(self.bits)
        step = arithmetic.per_channel(self.log_step.exp(), weights.dim())
        gradient_scale = (weights[0].numel() * highest) ** -0.5
        return learned_step(weights, step, lowest=lowest, highest=highest, gradient_scale=gradient_scale)

    def scale(self, weights: Tensor) -> Tensor:
        """The learned steps."""
        return self.log_step.detach().exp()


class LargestWeight(WeightQuantizer):
    """Each channel's largest weight gets the largest integer, anew in each step; gradients pass straight through."""

    def forward(self, weights: Tensor) -> Tensor:
        """The rounded weights."""
        lowest, highest = arithmetic.weight_levels(self.bits)
        step = arithmetic.per_channel(self.scale(weights), weights.dim())
        return straight_through(weights, step, lowest=lowest, highest=highest)

    def scale(self, weights: Tensor) -> Tensor:
        """The largest magnitudes over the largest integer; 1 for a channel of zeros."""
        largest = weights.detach().flatten(1).abs().amax(dim=1)
        return torch.where(largest > 0, largest, 1.0) / arithmetic.weight_levels(self.bits)[1]


class SignWeight(WeightQuantizer):
    """The sign of each weight times its channel's mean magnitude (Rastegari et al. 2016, arXiv 1603.05279)."""

    def __init__(self) -> None:
        super().__init__(bits=1)

    def forward(self, weights: Tensor) -> Tensor:
        """The rounded weights."""
        return binary_weights(weights)

    def scale(self, weights: Tensor) -> Tensor:
        """The mean magnitudes."""
        return weights.detach().flatten(1).abs().mean(dim=1)
