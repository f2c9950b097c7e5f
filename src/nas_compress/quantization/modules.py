"""The parts of a quantized network. Final modules for evaluation and export; they do not train."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas_compress.integer_ops import (
    dequantize_input,
    dequantize_weight,
    fake_quantize_activation,
)
from nas_compress.quantization import arithmetic


class IntegerWeight(nn.Module):
    """The weights of one layer as int8 integers (outputs, ...) and one float scale per output channel.

    With `computed_as_float` the runtime is to turn them into floats once, when it loads the file; else it
    computes with the integers.
    """

    integers: Tensor
    scale: Tensor

    def __init__(self, weights: Tensor, *, bits: int, computed_as_float: bool) -> None:
        super().__init__()
        scale = arithmetic.weight_scale(weights, bits)
        self.register_buffer("integers", arithmetic.quantize_weights(weights, scale, bits))
        shaped = arithmetic.per_channel(scale, weights.dim()) if computed_as_float else scale
        self.register_buffer("scale", shaped)
        self.computed_as_float = computed_as_float

    def forward(self) -> Tensor:
        """The float32 weights that the integers stand for."""
        if self.computed_as_float:
            return self.integers.to(torch.float32) * self.scale
        return cast(Tensor, dequantize_weight(self.integers, self.scale))


class IntegerConv2d(nn.Module):
    """A convolution with integer weights and a float bias, which the runtime rounds when it loads."""

    bias: Tensor | None

    def __init__(self, conv: nn.Conv2d, *, bits: int, computed_as_float: bool) -> None:
        super().__init__()
        self.weight = IntegerWeight(conv.weight, bits=bits, computed_as_float=computed_as_float)
        self.register_buffer("bias", None if conv.bias is None else conv.bias.detach().clone())
        self.stride, self.padding = conv.stride, conv.padding
        self.dilation, self.groups = conv.dilation, conv.groups

    def forward(self, values: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, h, w) as the float convolution did."""
        return F.conv2d(values, self.weight(), self.bias, self.stride, self.padding, self.dilation, self.groups)


class IntegerLinear(nn.Module):
    """A linear layer with integer weights and a float bias."""

    bias: Tensor | None

    def __init__(self, linear: nn.Linear, *, bits: int, computed_as_float: bool) -> None:
        super().__init__()
        self.weight = IntegerWeight(linear.weight, bits=bits, computed_as_float=computed_as_float)
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach().clone())

    def forward(self, values: Tensor) -> Tensor:
        """Map (..., inputs) to (..., outputs)."""
        return F.linear(values, self.weight(), self.bias)


class QuantizedInput(nn.Module):
    """The raw uint8 sample taken as the first quantized tensor: scale 1 / std, zero point mean."""

    def __init__(self, mean: int, std: float) -> None:
        super().__init__()
        self.scale, self.zero_point = arithmetic.as_float32(1.0 / std), mean

    def forward(self, samples: Tensor) -> Tensor:
        """Map uint8 (N, C, H, W) to normalised float32 values of the same shape."""
        return cast(Tensor, dequantize_input(samples, self.scale, self.zero_point))


class QuantizedActivation(nn.Module):
    """Rounds the tensor between two layers to unsigned integers with one scale."""

    def __init__(self, scale: float, zero_point: int, *, bits: int) -> None:
        super().__init__()
        self.scale, self.zero_point = scale, zero_point
        self.highest = arithmetic.largest_activation(bits)

    def forward(self, values: Tensor) -> Tensor:
        """Return float32 values of the same shape, each of which an integer stands for."""
        rounded = fake_quantize_activation(values, self.scale, self.zero_point, self.highest)
        return cast(Tensor, rounded)


class RangeObserver(nn.Module):
    """Stands at an activation point during calibration and remembers the lowest and highest value seen."""

    def __init__(self) -> None:
        super().__init__()
        self.lowest, self.highest = torch.zeros(()), torch.zeros(())

    def forward(self, values: Tensor) -> Tensor:
        """Return `values` unchanged."""
        lowest, highest = torch.aminmax(values)
        # Unlike Python's min, torch's hands on a nan.
        self.lowest, self.highest = torch.minimum(self.lowest, lowest), torch.maximum(self.highest, highest)
        return values
