"""Which networks compute in floats beside their integer kernels."""

from __future__ import annotations

from torch import nn

from nas_compress.models.transformer_layers import Attention

FLOAT_PARTS = (
    Attention,
    nn.MultiheadAttention,
    nn.LayerNorm,
    nn.RMSNorm,
    nn.GroupNorm,
    nn.InstanceNorm2d,
    nn.GELU,
    nn.SiLU,
    nn.Softmax,
)
"""Layers for which the runtime has no integer kernel: their inputs become floats first, and integers again after."""


def mixes_kernels(network: nn.Module) -> bool:
    """Whether float parts stand between the integer ones, so that only measuring tells whether integer kernels pay.

    >>> [mixes_kernels(nn.Sequential(nn.Linear(4, 4), last)) for last in (nn.GELU(), nn.ReLU())]
    [True, False]
    """
    return any(isinstance(module, FLOAT_PARTS) for module in network.modules())
