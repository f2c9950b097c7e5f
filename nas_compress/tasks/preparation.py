"""The user's own module in front of a network, by name."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from nas_compress.errors import RequestError, describe

SAME = 1e-4
"""Largest difference of a sample alone and in a batch, relative to the largest value."""

_DECLARED: dict[str, nn.Module] = {}


def declare_preparation(name: str, module: nn.Module) -> None:
    """Add a module to those of this process. name: reference and digest of its code."""
    _DECLARED[name] = module


def preparation(name: str) -> nn.Module:
    """Return a copy of a declared module; RequestError if this process has none of this name."""
    if name not in _DECLARED:
        raise RequestError(
            f"the module {name.split()[0]} must be loaded before a network is built; load the data first"
        )
    return deepcopy(_DECLARED[name])


def require_preparation(module: nn.Module, samples: Tensor, name: str) -> None:
    """Require float32 values of the samples' shape, finite, and the same for a sample alone.

    samples: two or more. RequestError of one line.
    """
    if any(True for _ in module.parameters()):
        raise RequestError(f"{name} must have no parameters, because nothing trains them, but got some; use buffers")
    try:
        with torch.no_grad():
            together, alone = module(samples), module(samples[:1])
    except Exception as error:
        raise RequestError(
            f"{name} must take raw samples, {str(samples.dtype).removeprefix('torch.')} {tuple(samples.shape)}, but "
            f"raised {describe(error)}"
        ) from error
    found = f"{together.dtype} {tuple(together.shape)}" if isinstance(together, Tensor) else type(together).__name__
    if not isinstance(together, Tensor) or (together.dtype, together.shape) != (torch.float32, samples.shape):
        raise RequestError(f"{name} must return float32 values of the shape {tuple(samples.shape)}, but got {found}")
    if not bool(torch.isfinite(together).all()):
        raise RequestError(f"{name} must return finite values, but got inf or nan")
    if not torch.allclose(alone, together[:1], rtol=SAME, atol=SAME * float(together.abs().max())):
        raise RequestError(f"{name} must prepare a sample alike in every batch, but does not; use no statistics of one")
