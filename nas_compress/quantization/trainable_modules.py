"""Modules of a network in quantization-aware training."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas_compress.quantization import arithmetic
from nas_compress.quantization.fake_quantization import learned_step
from nas_compress.quantization.weight_quantizers import WeightQuantizer

MOMENTUM = 0.01
"""Weight of the newest batch in running ranges (Jacob et al. 2018, arXiv 1712.05877, section 3.1)."""


class FakeQuantConv2d(nn.Module):
    """A convolution with fake-quantized weights; it uses the parameters of the given layer."""

    def __init__(self, conv: nn.Conv2d, quantizer: WeightQuantizer) -> None:
        super().__init__()
        self.weight, self.bias, self.quantizer = conv.weight, conv.bias, quantizer
        self.stride, self.padding = conv.stride, conv.padding
        self.dilation, self.groups = conv.dilation, conv.groups

    def forward(self, values: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, h, w) as the float convolution does."""
        weight = self.quantizer(self.weight)
        return F.conv2d(values, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class FakeQuantLinear(nn.Module):
    """A linear layer with fake-quantized weights; it uses the parameters of the given layer."""

    def __init__(self, linear: nn.Linear, quantizer: WeightQuantizer) -> None:
        super().__init__()
        self.weight, self.bias, self.quantizer = linear.weight, linear.bias, quantizer

    def forward(self, values: Tensor) -> Tensor:
        """Map (..., inputs) to (..., outputs)."""
        return F.linear(values, self.quantizer(self.weight), self.bias)


class ActivationQuantizer(nn.Module, ABC):
    """Round the tensor between two layers to unsigned integers of `bits` bits."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = bits

    @abstractmethod
    def forward(self, values: Tensor) -> Tensor:
        """Return rounded values of the same shape."""

    @abstractmethod
    def scale_and_zero_point(self) -> tuple[float, int]:
        """Return the scale and the zero point for the file."""


class LearnedStepActivation(ActivationQuantizer):
    """Learn the logarithm of the step (Esser et al. 2020, arXiv 1902.08153) around a fixed zero point.

    most: the integers reach no further. A kernel that clips there, as ReLU6 does, then needs no clipping of its own.
    """

    def __init__(self, scale: float, zero_point: int, *, bits: int) -> None:
        super().__init__(bits)
        self.log_step = nn.Parameter(torch.tensor(scale).log())
        self.zero_point, self.most = zero_point, math.inf

    @property
    def _step(self) -> Tensor:
        step = self.log_step.exp()
        levels = arithmetic.largest_activation(self.bits) - self.zero_point
        return step if math.isinf(self.most) or levels < 1 else step.clamp(max=self.most / levels)

    def forward(self, values: Tensor) -> Tensor:
        """Return rounded values of the same shape, in float32 because bfloat16 has fewer than 256 steps."""
        lowest, highest = -self.zero_point, arithmetic.largest_activation(self.bits) - self.zero_point
        gradient_scale = (values[0].numel() * max(1, highest)) ** -0.5
        return learned_step(values.float(), self._step, lowest=lowest, highest=highest, gradient_scale=gradient_scale)

    def scale_and_zero_point(self) -> tuple[float, int]:
        """Return the learned step and the zero point."""
        return float(self._step.detach()), self.zero_point


class RunningRangeActivation(ActivationQuantizer):
    """Round in the running mean of the batches' ranges, with straight-through gradients."""

    lowest: Tensor
    highest: Tensor

    def __init__(self, lowest: float, highest: float, *, bits: int) -> None:
        super().__init__(bits)
        self.register_buffer("lowest", torch.tensor(min(lowest, 0.0)))
        self.register_buffer("highest", torch.tensor(max(highest, 0.0)))

    def forward(self, values: Tensor) -> Tensor:
        """Return rounded values of the same shape; in training mode, update the range first."""
        if self.training:
            lowest, highest = torch.aminmax(values.detach())
            self.lowest.lerp_(lowest.clamp(max=0).to(self.lowest.dtype), MOMENTUM)
            self.highest.lerp_(highest.clamp(min=0).to(self.highest.dtype), MOMENTUM)
        most = arithmetic.largest_activation(self.bits)
        span = self.highest - self.lowest
        scale = torch.where(span > 0, span, most) / most
        zero_point = (-self.lowest / scale).round().clamp(0, most).to(torch.int32)
        return torch.fake_quantize_per_tensor_affine(values.float(), scale, zero_point, 0, most)

    def scale_and_zero_point(self) -> tuple[float, int]:
        """Return the scale and the zero point of the current range."""
        return arithmetic.activation_range(float(self.lowest), float(self.highest), self.bits)
