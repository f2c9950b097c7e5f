"""Many parameters as one, because an optimiser step costs time per tensor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def flattened(
    parameters: Sequence[nn.Parameter], memory_format: torch.memory_format = torch.channels_last
) -> Iterator[nn.Parameter]:
    """Make float32 `parameters` of one device views of one flat parameter, and their gradients views of its gradient.

    Inside, zero the flat gradient between steps; never set it to None. Parameters without influence on the loss have
    gradient 0. Afterwards each parameter has its own memory again and no gradient.

    memory_format: order of the numbers in kernels of images.
    """
    flat = nn.Parameter(
        torch.cat([_in_order(parameter.detach(), memory_format).reshape(-1) for parameter in parameters])
    )
    flat.grad = torch.zeros_like(flat)
    start = 0
    for parameter in parameters:
        end = start + parameter.numel()
        parameter.data = _piece(flat.detach()[start:end], parameter, memory_format)
        parameter.grad = _piece(flat.grad[start:end], parameter, memory_format)
        start = end
    try:
        yield flat
    finally:
        for parameter in parameters:
            parameter.grad, parameter.data = None, parameter.detach().clone()


def _in_order(values: Tensor, memory_format: torch.memory_format) -> Tensor:
    """Permute a kernel (O, I, H, W) to the order of channels_last, (O, H, W, I), if this is asked for."""
    return values.permute(0, 2, 3, 1) if _is_permuted(values, memory_format) else values


def _piece(numbers: Tensor, like: Tensor, memory_format: torch.memory_format) -> Tensor:
    piece = numbers.view(_in_order(like, memory_format).shape)
    return piece.permute(0, 3, 1, 2) if _is_permuted(like, memory_format) else piece


def _is_permuted(values: Tensor, memory_format: torch.memory_format) -> bool:
    return values.ndim == 4 and memory_format == torch.channels_last
