"""Where training runs, and its precision there."""

from __future__ import annotations

import contextlib

import torch

from nas_compress.errors import RequestError


def choose_device(wanted: str) -> torch.device:
    """`cpu`, `cuda`, or `auto`: the GPU where there is one."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise RequestError("device = 'cuda' needs a GPU that torch can use, but there is none; use 'auto' or 'cpu'")
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(wanted)


def mixed_precision(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """bfloat16 autocast on a GPU, nothing elsewhere. Losses are computed in float32 by their own definition."""
    if device.type == "cuda":
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return contextlib.nullcontext()
