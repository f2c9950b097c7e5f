"""The parts of a vision transformer's encoder (Dosovitskiy et al. 2021, arXiv 2010.11929, section 3.1).

Inside the encoder all tokens of a batch are rows of one matrix, (B * tokens, width), so that every linear layer is one
plain product. The input of every linear layer passes an activation point. Normalisation, attention scores and residual
sums stay float.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from nas_compress.models.features import Relations
from nas_compress.models.layers import ActivationPoint


class Attention(nn.Module):
    """Self-attention. `inner`: channels of all heads together; they may differ from the stream's."""

    def __init__(self, width: int, inner: int, *, heads: int, tokens: int) -> None:
        super().__init__()
        self.heads, self.tokens, self.head_width = heads, tokens, inner // heads
        self.query, self.key, self.value = (nn.Linear(width, inner) for _ in range(3))
        self.point = ActivationPoint()
        self.output = nn.Linear(inner, width)

    def forward(self, values: Tensor) -> tuple[Tensor, Relations]:
        """Map (B * tokens, width) to the same shape; also queries, keys and values."""
        relations = self._heads(self.query(values)), self._heads(self.key(values)), self._heads(self.value(values))
        mixed = F.scaled_dot_product_attention(*relations, scale=self.head_width**-0.5)
        merged = mixed.transpose(1, 2).reshape(-1, self.heads * self.head_width)
        return cast(Tensor, self.output(self.point(merged))), relations

    def _heads(self, values: Tensor) -> Tensor:
        return values.reshape(-1, self.tokens, self.heads, self.head_width).transpose(1, 2)


class Perceptron(nn.Module):
    """Two linear layers with GELU between them, applied to each token."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, inner)
        self.gelu = nn.GELU()
        self.point = ActivationPoint()
        self.outer = nn.Linear(inner, width)

    def forward(self, values: Tensor) -> Tensor:
        """Map (B * tokens, width) to the same shape."""
        return cast(Tensor, self.outer(self.point(self.gelu(self.inner(values)))))


class EncoderLayer(nn.Module):
    """Attention and perceptron, each on normalised values and added to its input (pre-norm)."""

    def __init__(self, width: int, *, attention: int, mlp: int, heads: int, tokens: int) -> None:
        super().__init__()
        self.attention_norm, self.attention_point = nn.LayerNorm(width), ActivationPoint()
        self.attention = Attention(width, attention, heads=heads, tokens=tokens)
        self.mlp_norm, self.mlp_point = nn.LayerNorm(width), ActivationPoint()
        self.mlp = Perceptron(width, mlp)

    def share_(self, other: EncoderLayer, parts: Sequence[str]) -> None:
        """Use the other layer's `attention` or `mlp` or both, with normalisation and activation point before it.

        One point means one scale of the integers there, and so one integer bias behind it.
        """
        for part in parts:
            for name in (f"{part}_norm", f"{part}_point", part):
                setattr(self, name, getattr(other, name))

    def forward(self, values: Tensor) -> tuple[Tensor, Relations]:
        """Map (B * tokens, width) to the same shape; also queries, keys and values."""
        attended, relations = self.attention(self.attention_point(self.attention_norm(values)))
        values = values + attended
        return values + self.mlp(self.mlp_point(self.mlp_norm(values))), relations


class PatchEmbedding(nn.Module):
    """Patches by a strided convolution, each with a learned position, after `extra_tokens` learned tokens.

    `position` has a row per token. The rows of the extra tokens are the tokens themselves.
    """

    rows: Tensor
    is_patch: Tensor

    def __init__(self, inputs: int, width: int, *, patch_size: int, patches: int, extra_tokens: int) -> None:
        super().__init__()
        self.width, self.patches, self.extra_tokens = width, patches, extra_tokens
        self.conv = nn.Conv2d(inputs, width, patch_size, stride=patch_size)
        self.point = ActivationPoint()
        self.position = nn.Parameter(torch.empty(extra_tokens + patches, width))
        rows = torch.arange(-extra_tokens, patches)
        self.register_buffer("rows", rows.clamp(min=0), persistent=False)
        self.register_buffer("is_patch", (rows >= 0).float().unsqueeze(1), persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to tokens (B, tokens, width): the extra ones, then the patches row by row."""
        patches = self.point(self.conv(values)).reshape(-1, self.width, self.patches).transpose(1, 2)
        if self.extra_tokens:
            # selected and not joined: the exported file then needs no operation on its batch size
            patches = patches.index_select(1, self.rows) * self.is_patch
        return cast(Tensor, patches + self.position)


FLOAT_PARTS = (
    Attention,
    nn.MultiheadAttention,
    nn.LayerNorm,
    nn.RMSNorm,
    nn.GroupNorm,
    nn.InstanceNorm2d,
    nn.GELU,
    nn.SiLU,
    nn.Hardswish,
    nn.Mish,
    nn.ELU,
    nn.Tanh,
    nn.Softmax,
)
"""Layers without an integer kernel in the runtime; the file converts to floats before them and back after."""

FLOAT_FUNCTIONS = (
    "scaled_dot_product_attention",
    "softmax",
    "layer_norm",
    "rms_norm",
    "group_norm",
    "instance_norm",
    "gelu",
    "silu",
    "hardswish",
    "mish",
    "elu",
    "tanh",
)
"""Functions of torch without an integer kernel, in a traced network."""


def mixes_kernels(network: nn.Module) -> bool:
    """Return True for a network with float layers among the integer ones; only a measurement shows if integers pay.

    >>> [mixes_kernels(nn.Sequential(nn.Linear(4, 4), last)) for last in (nn.GELU(), nn.ReLU())]
    [True, False]
    """
    nodes = network.graph.nodes if isinstance(network, fx.GraphModule) else ()
    names = {str(getattr(node.target, "__name__", node.target)) for node in nodes if node.op != "call_module"}
    return not names.isdisjoint(FLOAT_FUNCTIONS) or any(isinstance(module, FLOAT_PARTS) for module in network.modules())
