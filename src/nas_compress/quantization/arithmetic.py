"""The arithmetic of integer tensors as pure functions (Jacob et al. 2018, arXiv 1712.05877, section 2)."""

from __future__ import annotations

import torch
from torch import Tensor

SMALLEST_RELATIVE_SCALE = 2.0**-12
"""Of a layer's largest scale. Biases become int32 in units of the scale: a tiny one would overflow them."""


def weight_scale(weights: Tensor, bits: int) -> Tensor:
    """One positive scale (outputs,) per output channel, so that the largest weight gets the largest integer.

    Symmetric: the zero point is 0. A channel of far smaller weights than its layer's largest gets a larger
    scale, and a layer of zeros scale 1.

    >>> weight_scale(torch.tensor([[-2.54, 1.0], [0.0, 0.0]]), 8)
    tensor([2.0000e-02, 4.8828e-06])
    """
    scale = weights.detach().flatten(1).abs().amax(dim=1).to(torch.float32) / largest_weight(bits)
    if float(scale.max()) < torch.finfo(torch.float32).tiny:
        return torch.ones_like(scale)
    return scale.clamp(min=float(scale.max()) * SMALLEST_RELATIVE_SCALE)


def quantize_weights(weights: Tensor, scale: Tensor, bits: int) -> Tensor:
    """Weights (outputs, ...) as int8 integers of at most `bits` bits, ties to even, -2^(bits-1) unused.

    >>> quantize_weights(torch.tensor([[-2.54, 1.0]]), torch.tensor([0.02]), 8)
    tensor([[-127,   50]], dtype=torch.int8)
    """
    scaled = torch.round(weights.detach() / per_channel(scale, weights.dim()))
    return scaled.clamp(-largest_weight(bits), largest_weight(bits)).to(torch.int8)


def activation_range(lowest: float, highest: float, bits: int) -> tuple[float, int]:
    """Scale and zero point whose integers 0 to 2^bits - 1 cover `lowest` to `highest`, and 0.0 without error.

    A range that holds only 0 gets scale 1.

    >>> activation_range(-1.0, 1.55, 8)
    (0.009999999776482582, 100)
    """
    lowest, highest = min(lowest, 0.0), max(highest, 0.0)
    scale = as_float32((highest - lowest) / largest_activation(bits))
    if scale < torch.finfo(torch.float32).tiny:
        return 1.0, 0
    return scale, min(round(-lowest / scale), largest_activation(bits))


def largest_weight(bits: int) -> int:
    """The largest signed integer of that many bits."""
    return int(2 ** (bits - 1) - 1)


def largest_activation(bits: int) -> int:
    """The largest unsigned integer of that many bits."""
    return int(2**bits - 1)


def per_channel(scale: Tensor, dimensions: int) -> Tensor:
    """A scale (outputs,) with ones added behind it, so that it multiplies a tensor of so many dimensions."""
    return scale.reshape(-1, *[1] * (dimensions - 1))


def as_float32(value: float) -> float:
    """The float32 nearest to `value`: what the file will hold."""
    return float(torch.tensor(value, dtype=torch.float32))
