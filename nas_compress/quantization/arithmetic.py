"""Arithmetic of integer tensors as pure functions (Jacob et al. 2018, arXiv 1712.05877, section 2)."""

from __future__ import annotations

import torch
from torch import Tensor

SMALLEST_RELATIVE_SCALE = 2.0**-12
"""Least fraction of a layer's largest scale. Biases are int32 in units of the scale and overflow with a tiny one."""

SMALLEST_SCALE = 2.0**-24
"""The smallest 16-bit float above 0."""

SCALE_OF_ZEROS = 2.0**-18
"""Scale of a layer of zeros: signs (never 0) give values near 0, and biases of 8,192 input steps fit int32."""


def weight_scale(weights: Tensor, bits: int) -> Tensor:
    """Scale (outputs,) of each output channel: positive, and the largest weight gets the largest integer.

    Symmetric: the zero point is 0. One bit takes the mean magnitude, the least squared error for signs (Rastegari et
    al. 2016, arXiv 1603.05279, equation 6). A channel with far smaller weights than its layer's largest gets a larger
    scale, and a layer of zeros SCALE_OF_ZEROS.

    >>> weight_scale(torch.tensor([[-2.54, 1.0], [0.0, 0.0]]), 8)
    tensor([2.0004e-02, 4.8876e-06])
    """
    magnitudes = weights.detach().flatten(1).abs().to(torch.float32)
    scale = magnitudes.mean(dim=1) if bits == 1 else magnitudes.amax(dim=1) / weight_levels(bits)[1]
    return usable_scale(scale)


def nearest_scale(weights: Tensor, bits: int) -> Tensor:
    """Scale (outputs,) of the least squared rounding error of each output channel.

    It tries 100 fractions of `weight_scale`. For one bit `weight_scale` is the optimum.
    """
    widest = weight_scale(weights, bits)
    if bits == 1:
        return widest
    flat, best, least = weights.detach().flatten(1), widest, torch.full_like(widest, torch.inf)
    for fraction in torch.linspace(0.1, 1.0, 100).tolist():
        scale = widest * fraction
        error = (quantize_weights(flat, scale, bits) * scale[:, None] - flat).square().sum(dim=1)
        best, least = torch.where(error < least, scale, best), torch.minimum(error, least)
    return usable_scale(best)


def usable_scale(scale: Tensor) -> Tensor:
    """Round scales (outputs,) to the 16-bit floats of the file, returned in float32 and greater than 0.

    Scales too small for int32 biases are raised. If all are 0, all weights are 0 and the scales become SCALE_OF_ZEROS.
    """
    if float(scale.max()) < torch.finfo(torch.float32).tiny:
        return torch.full_like(scale, SCALE_OF_ZEROS)
    kept = scale.clamp(min=max(float(scale.max()) * SMALLEST_RELATIVE_SCALE, SMALLEST_SCALE))
    return to_half(kept).to(torch.float32)


def to_half(values: Tensor) -> Tensor:
    """Round to 16-bit floats; values outside their range saturate."""
    largest = torch.finfo(torch.float16).max
    return values.detach().clamp(-largest, largest).to(torch.float16)


def quantize_weights(weights: Tensor, scale: Tensor, bits: int) -> Tensor:
    """Round weights (outputs, ...) to int8 integers of `bits` bits, ties to even; values outside saturate.

    >>> quantize_weights(torch.tensor([[-2.54, 1.0]]), torch.tensor([0.02]), 8)
    tensor([[-127,   50]], dtype=torch.int8)
    >>> quantize_weights(torch.tensor([[-2.54, 0.0]]), torch.tensor([1.27]), 1)
    tensor([[-1,  1]], dtype=torch.int8)
    """
    if bits == 1:
        return torch.where(weights.detach() < 0, -1, 1).to(torch.int8)
    scaled = torch.round(weights.detach() / per_channel(scale, weights.dim()))
    return scaled.clamp(*weight_levels(bits)).to(torch.int8)


def float8_weights(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return weights as bytes of e4m3 floats, uint8 (outputs, ...), and a scale (outputs,) for their whole range."""
    largest = torch.finfo(torch.float8_e4m3fn).max
    scale = usable_scale(weights.detach().flatten(1).abs().amax(dim=1).to(torch.float32) / largest)
    scaled = (weights.detach() / per_channel(scale, weights.dim())).clamp(-largest, largest)
    return scaled.to(torch.float8_e4m3fn).view(torch.uint8), scale


def activation_range(lowest: float, highest: float, bits: int) -> tuple[float, int]:
    """Return scale and zero point of integers 0 to 2^bits - 1 for a range; 0.0 is represented exactly.

    The range of 0 alone gets scale 1.

    >>> activation_range(-1.0, 1.55, 8)
    (0.009999999776482582, 100)
    """
    lowest, highest = min(lowest, 0.0), max(highest, 0.0)
    scale = as_float32((highest - lowest) / largest_activation(bits))
    if scale < torch.finfo(torch.float32).tiny:
        return 1.0, 0
    return scale, min(round(-lowest / scale), largest_activation(bits))


def weight_levels(bits: int) -> tuple[int, int]:
    """Lowest and highest integer of a weight: 8 bits without -128, fewer bits use all (Esser et al. 2020).

    >>> [weight_levels(bits) for bits in (8, 4, 2, 1)]
    [(-127, 127), (-8, 7), (-2, 1), (-1, 1)]
    """
    if bits == 1:
        return -1, 1
    highest = 2 ** (bits - 1) - 1
    return (-highest if bits == 8 else -highest - 1), highest


def largest_activation(bits: int) -> int:
    """Largest unsigned integer of this many bits."""
    return int(2**bits - 1)


def per_channel(scale: Tensor, dimensions: int) -> Tensor:
    """Reshape a scale (outputs,) to broadcast over a tensor with this number of dimensions."""
    return scale.reshape(-1, *[1] * (dimensions - 1))


def as_float32(value: float) -> float:
    """Round to float32, as in the file."""
    return float(torch.tensor(value, dtype=torch.float32))
