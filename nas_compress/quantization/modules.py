"""The parts of a quantized network: for evaluation and export, they do not train."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas_compress.models.integer_ops import (
    dequantize_input,
    fake_quantize_activation,
    float8_weight,
    integer_bias,
    stored_weight,
)
from nas_compress.quantization import arithmetic
from nas_compress.quantization.trainable_modules import FakeQuantConv2d, FakeQuantLinear


class IntegerWeight(nn.Module):
    """The weights of one layer as int8 integers (outputs, ...) and one float scale per output channel.

    codebook: the integers that the layer's weights share, int8 (2^bits,); without one they are those of its width.
    With `computed_as_float` the runtime is to turn them into floats once, when it loads the file; else it computes with
    the integers.
    """

    integers: Tensor
    scale: Tensor
    codebook: Tensor

    def __init__(
        self, integers: Tensor, scale: Tensor, *, bits: int, computed_as_float: bool, codebook: Tensor | None = None
    ) -> None:
        super().__init__()
        self.register_buffer("integers", integers)
        self.register_buffer("scale", scale)
        self.register_buffer("codebook", torch.zeros(0, dtype=torch.int8) if codebook is None else codebook)
        self.bits, self.computed_as_float = bits, computed_as_float

    def forward(self) -> Tensor:
        """The float32 weights that the integers stand for."""
        return cast(Tensor, stored_weight(self.integers, self.scale, self.codebook, self.bits, self.computed_as_float))


class Float8Weight(nn.Module):
    """The weights of one layer as the bytes of e4m3 floats (outputs, ...) and one scale per output channel."""

    codes: Tensor
    scale: Tensor

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        codes, scale = arithmetic.float8_weights(weights)
        self.register_buffer("codes", codes)
        self.register_buffer("scale", scale)

    def forward(self) -> Tensor:
        """The float32 weights that the bytes stand for."""
        return cast(Tensor, float8_weight(self.codes, self.scale))


class HalfWeight(nn.Module):
    """The weights of one layer as 16-bit floats (outputs, ...)."""

    halves: Tensor

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.register_buffer("halves", arithmetic.to_half(weights))

    def forward(self) -> Tensor:
        """The same numbers as float32."""
        return self.halves.to(torch.float32)


class StoredConv2d(nn.Module):
    """A convolution whose weights a module of their own gives, with a bias of 16-bit floats.

    input_scale: that of the integers that it reads, where the runtime computes it in integers.
    """

    bias: Tensor | None
    input_scale: float | None = None

    def __init__(self, conv: nn.Conv2d | FakeQuantConv2d, weight: nn.Module) -> None:
        super().__init__()
        self.weight = weight
        self.register_buffer("bias", _half(conv.bias))
        self.stride, self.padding = conv.stride, conv.padding
        self.dilation, self.groups = conv.dilation, conv.groups

    def forward(self, values: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, h, w) as the float convolution did."""
        bias = _added(self.bias, self.weight, self.input_scale)
        return F.conv2d(values, self.weight(), bias, self.stride, self.padding, self.dilation, self.groups)


class StoredLinear(nn.Module):
    """A linear layer whose weights a module of their own gives, with a bias of 16-bit floats.

    input_scale: that of the integers that it reads, where the runtime computes it in integers.
    """

    bias: Tensor | None
    input_scale: float | None = None

    def __init__(self, linear: nn.Linear | FakeQuantLinear, weight: nn.Module) -> None:
        super().__init__()
        self.weight = weight
        self.register_buffer("bias", _half(linear.bias))

    def forward(self, values: Tensor) -> Tensor:
        """Map (..., inputs) to (..., outputs)."""
        return F.linear(values, self.weight(), _added(self.bias, self.weight, self.input_scale))


def _added(bias: Tensor | None, weight: nn.Module, input_scale: float | None) -> Tensor | None:
    """The bias that the runtime adds, float32 (outputs,)."""
    if bias is None or input_scale is None or not isinstance(weight, IntegerWeight):
        return None if bias is None else bias.to(torch.float32)
    return cast(Tensor, integer_bias(bias, weight.scale, input_scale))


def _half(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else arithmetic.to_half(bias)


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
    """Stands at an activation point during calibration and keeps some of the values, the smallest and largest too.

    Of each larger tensor it keeps KEPT values, one from a random place of each of as many equal stretches; the places
    are the same in every run.
    """

    KEPT = 16_384

    def __init__(self) -> None:
        super().__init__()
        self._seen: list[Tensor] = []
        self._random = torch.Generator().manual_seed(0)

    def forward(self, values: Tensor) -> Tensor:
        """Return `values` unchanged."""
        flat = values.detach().reshape(-1)
        ends = torch.stack(torch.aminmax(flat))
        if flat.numel() > self.KEPT:
            flat = flat[self._places(flat.numel()).to(flat.device)]
        self._seen += [flat, ends]
        return values

    @property
    def values(self) -> Tensor:
        """What was kept: float32 (n,) on the CPU."""
        return torch.cat(self._seen).float().cpu()

    def _places(self, count: int) -> Tensor:
        """Rising places among `count`, int64 (KEPT,); any fixed step would meet the same pixels of some maps only."""
        within = torch.rand(self.KEPT, generator=self._random, dtype=torch.float64)
        places = ((torch.arange(self.KEPT, dtype=torch.float64) + within) * (count / self.KEPT)).long()
        return places.clamp_(max=count - 1)
