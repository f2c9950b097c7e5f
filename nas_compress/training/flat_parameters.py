"""Many parameters as one: an optimiser pays per tensor, and a small network has many small ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def flattened(parameters: Sequence[nn.Parameter]) -> Iterator[nn.Parameter]:
    """Let float32 `parameters` of one device be pieces of one (numbers,) parameter, and its gradient theirs.

    Inside, a backward pass adds to the one gradient, which is to be zeroed between steps and never set to None;
    what no loss depends on has the gradient 0. Afterwards each parameter has memory of its own again and no gradient.
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
    """The numbers of a kernel (O, I, H, W) as channels_last stores them: (O, H, W, I)."""
    return values.permute(0, 2, 3, 1) if values.ndim == 4 else values


def _piece(numbers: Tensor, like: Tensor) -> Tensor:
    piece = numbers.view(_in_order(like).shape)
    return piece.permute(0, 3, 1, 2) if like.ndim == 4 else piece
