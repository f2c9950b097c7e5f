"""Many parameters as one, because an optimiser step costs time per tensor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def flattened(parameters: Sequence[nn.Parameter]) -> Iterator[nn.Parameter]:
    """Make float32 `parameters` of one device views of one flat parameter, and their gradients views of its gradient.

    Inside, zero the flat gradient between steps; never set it to None. Parameters without influence on the loss have
    gradient 0. Afterwards each parameter has its own memory again and no gradient.
    """
    flat = nn.Parameter(torch.cat([_in_order(parameter.detach()).reshape(-1) for parameter in parameters]))
    flat.grad = torch.zeros_like(flat)
    start = 0
    for parameter in parameters:
        end = start + parameter.numel()
        parameter.data = _piece(flat.detach()[start:end], parameter)
        parameter.grad = _piece(flat.grad[start:end], parameter)
        start = end
    try:
        yield flat
    finally:
        for parameter in parameters:
            parameter.grad, parameter.data = None, parameter.detach().clone()


def _in_order(values: Tensor) -> Tensor:
    """Permute a kernel (O, I, H, W) to the order of channels_last: (O, H, W, I)."""
    return values.permute(0, 2, 3, 1) if values.ndim == 4 else values


def _piece(numbers: Tensor, like: Tensor) -> Tensor:
    piece = numbers.view(_in_order(like).shape)
    return piece.permute(0, 3, 1, 2) if like.ndim == 4 else piece
