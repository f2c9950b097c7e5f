"""Attention and transformer layers of torch as single operations, without the fused kernel for evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def plain_attention() -> Iterator[None]:
    """Let `nn.MultiheadAttention` and `nn.TransformerEncoderLayer` call their layers one by one.

    In evaluation mode they otherwise call one fused kernel. No exporter has it, and its products cannot be counted.
    """
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
