"""Rounding with gradients, as autograd functions for quantization-aware training."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor


class _LearnedStep(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, step: Tensor, lowest: int, highest: int, gradient_scale: float) -> Tensor:
        scaled = values / step
        integers = scaled.round().clamp_(lowest, highest)
        ctx.save_for_backward(scaled, integers, step)
        ctx.bounds, ctx.gradient_scale = (lowest, highest), gradient_scale
        return integers * step

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, Tensor, None, None, None]:
        (gradient,) = gradients
        scaled, integers, step = ctx.saved_tensors
        lowest, highest = ctx.bounds
        inside = (scaled >= lowest) & (scaled <= highest)
        to_values = gradient * inside
        # sum of gradient * (integers - scaled) inside the range and gradient * integers outside
        to_step = torch.addcmul(gradient * integers, to_values, scaled, value=-1).sum_to_size(step.shape)
        return to_values, to_step * ctx.gradient_scale, None, None, None


def learned_step(values: Tensor, step: Tensor, *, lowest: int, highest: int, gradient_scale: float) -> Tensor:
    """Round `values` to multiples `lowest` to `highest` of `step`, a positive tensor that broadcasts.

    Learned step size quantization (Esser et al. 2020, arXiv 1902.08153). Gradients pass to values inside the range. The
    gradient of the step is equation 3 times `gradient_scale`: `round(v/s) - v/s` inside and the bound outside.
    """
    return cast(Tensor, _LearnedStep.apply(values, step, lowest, highest, gradient_scale))  # type: ignore[no-untyped-call]


class _Sign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weights: Tensor) -> Tensor:
        scale = weights.abs().mean(dim=tuple(range(1, weights.dim())), keepdim=True)
        ctx.save_for_backward(weights, scale)
        return torch.where(weights < 0, -scale, scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Tensor:
        (gradient,) = gradients
        weights, scale = ctx.saved_tensors
        return cast(Tensor, gradient * (1 / weights[0].numel() + scale * (weights.abs() <= 1)))


def binary_weights(weights: Tensor) -> Tensor:
    """Return the signs of weights (outputs, ...) times each channel's mean magnitude; the sign of 0 is positive.

    Binary-weight networks (Rastegari et al. 2016, arXiv 1603.05279). Gradient as in their section 3.1:
    `g * (1/n + scale * [|w| <= 1])` with n weights per channel.
    """
    return cast(Tensor, _Sign.apply(weights))  # type: ignore[no-untyped-call]


def straight_through(values: Tensor, step: Tensor, *, lowest: int, highest: int) -> Tensor:
    """Round to multiples of a fixed step; gradients pass inside the range (Bengio et al. 2013, arXiv 1308.3432)."""
    return learned_step(values, step.detach(), lowest=lowest, highest=highest, gradient_scale=0.0)


class _Shared(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        ctx.count = len(values)
        return values[places]

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None]:
        (gradient,) = gradients
        (places,) = ctx.saved_tensors
        summed = torch.bincount(places.reshape(-1), weights=gradient.reshape(-1), minlength=ctx.count)
        return summed.to(gradient.dtype), None


def shared_values(values: Tensor, places: Tensor) -> Tensor:
    """Look up values (k,) at `places`, int64 of any shape.

    The gradient of a value is the sum over its places (Han et al. 2016, arXiv 1510.00149, section 3.3).
    """
    return cast(Tensor, _Shared.apply(values, places))  # type: ignore[no-untyped-call]
