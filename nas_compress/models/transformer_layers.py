"""The parts of a transformer's encoder (Vaswani et al. 2017, arXiv 1706.03762; Dosovitskiy et al. 2021, 2010.11929).

In a vision transformer all tokens of a batch are rows of one matrix, (B * tokens, width), so that every linear layer is
one plain product. In a network of sequences of any length they are (B, tokens, width). The input of every linear layer
passes an activation point. Normalisation, attention scores and residual sums stay float.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from nas_compress.errors import RequestError
from nas_compress.models.features import Relations
from nas_compress.models.layers import ActivationPoint
from nas_compress.values.architecture import Architecture

SHARED_PARTS = {"none": (), "attention": ("attention",), "mlp": ("mlp",), "all": ("attention", "mlp")}
"""Shared parts of the encoder layers, by `sharing`."""


ROTATION_BASE = 10_000.0
"""Largest period of rotary positions, in units of 2 pi tokens."""


def repeats_layer(layer: str, sharing: str) -> bool:
    """Return True if a free layer has the weights of the first encoder layer."""
    place, number, part, *_ = [*layer.split("."), "", ""]
    return place == "layers" and number != "0" and part in SHARED_PARTS[sharing]


def require_whole_heads(architecture: Architecture, attentions: Sequence[str], heads: int) -> None:
    """Raise RequestError unless each attention has a whole number of channels per head.

    attentions: their free layers. heads: of each, unless the architecture has other numbers.
    """
    for layer, count in zip(attentions, architecture.layer_heads or (heads,) * len(attentions), strict=True):
        channels = architecture.channels(layer)
        if count < 1 or channels % count:
            raise RequestError(
                f"heads must divide the channels of each attention, but got heads={count} for {channels} of {layer}"
            )


class Rotation(nn.Module):
    """Rotary positions: pairs of channels turn by an angle that grows with the position.

    Su et al. 2021, arXiv 2104.09864, equation 34; channel c is paired with c + size / 2. An odd last channel stays.
    The angles are computed from a few stored numbers; the runtime does it once, when it loads the file.

    size: channels of a head. longest: largest number of tokens.
    """

    places: Tensor
    speeds: Tensor
    signs: Tensor
    partners: Tensor

    def __init__(self, size: int, *, longest: int) -> None:
        super().__init__()
        pairs, rest = size // 2, [0.0] * (size % 2)
        speeds = [ROTATION_BASE ** (-pair / pairs) for pair in range(pairs)]
        channels = list(range(size))
        partners = channels[pairs : 2 * pairs] + channels[:pairs] + channels[2 * pairs :]
        # persistent: the exporter would store what it computes from other buffers
        self.register_buffer("places", torch.arange(longest))
        self.register_buffer("speeds", torch.tensor(speeds * 2 + rest), persistent=False)
        self.register_buffer("signs", torch.tensor([-1.0] * pairs + [1.0] * pairs + rest), persistent=False)
        self.register_buffer("partners", torch.tensor(partners), persistent=False)

    def forward(self, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Turn both, (B, heads, tokens, size)."""
        angles = self.places.float().unsqueeze(1) * self.speeds
        cosines, sines = angles.cos()[: queries.shape[2]], (angles.sin() * self.signs)[: queries.shape[2]]
        turned = [values * cosines + values.index_select(3, self.partners) * sines for values in (queries, keys)]
        return turned[0], turned[1]


class Attention(nn.Module):
    """Self-attention.

    inner: channels of all heads together; they may differ from the stream's.
    tokens: of each sample if they are rows of one matrix; None: the batch is (B, tokens, width).
    longest: largest number of tokens of rotary positions; None without them.
    """

    def __init__(self, width: int, inner: int, *, heads: int, tokens: int | None, longest: int | None = None) -> None:
        super().__init__()
        self.heads, self.tokens, self.head_width = heads, tokens, inner // heads
        self.query, self.key, self.value = (nn.Linear(width, inner) for _ in range(3))
        self.rotation = None if longest is None else Rotation(self.head_width, longest=longest)
        self.point = ActivationPoint(rows=tokens or 1)
        self.output = nn.Linear(inner, width)

    def forward(self, values: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Relations]:
        """Map values to the same shape; also queries, keys and values.

        mask: added to the scores, (B, 1, 1, tokens).
        """
        queries, keys = self._heads(self.query(values)), self._heads(self.key(values))
        if self.rotation is not None:
            queries, keys = self.rotation(queries, keys)
        relations = queries, keys, self._heads(self.value(values))
        mixed = F.scaled_dot_product_attention(*relations, attn_mask=mask, scale=self.head_width**-0.5)
        rows = mixed.transpose(1, 2)
        inner = self.heads * self.head_width
        merged = rows.reshape(-1, inner) if self.tokens else rows.reshape(*rows.shape[:2], inner)
        return cast(Tensor, self.output(self.point(merged))), relations

    def _heads(self, values: Tensor) -> Tensor:
        # sizes of the tensor itself: the exported file then copies them
        shape = (-1, self.tokens) if self.tokens else values.shape[:2]
        return values.reshape(*shape, self.heads, self.head_width).transpose(1, 2)


class Perceptron(nn.Module):
    """Two linear layers with GELU between them, applied to each token. tokens: see `Attention`."""

    def __init__(self, width: int, inner: int, *, tokens: int | None) -> None:
        super().__init__()
        self.inner = nn.Linear(width, inner)
        self.gelu = nn.GELU()
        self.point = ActivationPoint(rows=tokens or 1)
        self.outer = nn.Linear(inner, width)

    def forward(self, values: Tensor) -> Tensor:
        """Map (..., width) to the same shape."""
        return cast(Tensor, self.outer(self.point(self.gelu(self.inner(values)))))


class EncoderLayer(nn.Module):
    """Attention and perceptron, each added to its input.

    post_norm: the sums are normalised (Vaswani et al. 2017); otherwise the inputs of both parts are (pre-norm).
    tokens, longest: see `Attention`.
    """

    def __init__(
        self,
        width: int,
        *,
        attention: int,
        mlp: int,
        heads: int,
        tokens: int | None,
        longest: int | None = None,
        post_norm: bool = False,
    ) -> None:
        super().__init__()
        self.post_norm, self.rows = post_norm, tokens or 1
        self.attention_norm, self.attention_point = nn.LayerNorm(width), ActivationPoint(rows=self.rows)
        self.attention = Attention(width, attention, heads=heads, tokens=tokens, longest=longest)
        self.mlp_norm, self.mlp_point = nn.LayerNorm(width), ActivationPoint(rows=self.rows)
        self.mlp = Perceptron(width, mlp, tokens=tokens)

    def share_(self, other: EncoderLayer, parts: Sequence[str]) -> None:
        """Use the other layer's `attention` or `mlp` or both, with normalisation and activation point before it.

        One point means one scale of the integers there, and so one integer bias behind it.
        """
        for part in parts:
            for name in (f"{part}_norm", f"{part}_point", part):
                setattr(self, name, getattr(other, name))

    def forward(self, values: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Relations]:
        """Map values to the same shape; also queries, keys and values. mask: see `Attention`."""
        if self.post_norm:
            attended, relations = self.attention(self.attention_point(values), mask)
            values = self.attention_norm(values + attended)
            return self.mlp_norm(values + self.mlp(self.mlp_point(values))), relations
        attended, relations = self.attention(self.attention_point(self.attention_norm(values)), mask)
        values = values + attended
        return values + self.mlp(self.mlp_point(self.mlp_norm(values))), relations


class Classifier(nn.Module):
    """Normalisation, an activation point, and the linear classifier. Its outputs stay float.

    scale: last module, see `models.scaling.output_scale`.
    """

    def __init__(self, width: int, outputs: int, *, scale: nn.Module) -> None:
        super().__init__()
        self.norm, self.point = nn.LayerNorm(width), ActivationPoint()
        self.linear, self.scale = nn.Linear(width, outputs), scale

    def forward(self, values: Tensor) -> Tensor:
        """Map (B, width) to (B, outputs)."""
        answer: Tensor = self.scale(self.linear(self.point(self.norm(values))))
        return answer


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
        self.point = ActivationPoint(multiplied=False)
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
