"""Attention of torch as separate layers, so that each has an input and an output of its own."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas_compress.quantization.modules import replace_modules_


class SeparateAttention(nn.Module):
    """`nn.MultiheadAttention` by linear layers with its parameters.

    `in_proj` maps inputs to queries, keys and values together if the attention has one matrix for them; otherwise
    `q_proj`, `k_proj` and `v_proj` do.
    """

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        self.num_heads, self.head_dim = attention.num_heads, attention.head_dim
        self.batch_first, self.dropout = attention.batch_first, attention.dropout
        self._qkv_same_embed_dim, self.in_proj_bias = attention._qkv_same_embed_dim, None
        bias = attention.in_proj_bias
        if attention._qkv_same_embed_dim:
            self.in_proj = _linear(attention.in_proj_weight, bias)
        else:
            biases = (None,) * 3 if bias is None else map(nn.Parameter, bias.detach().chunk(3))
            weights = attention.q_proj_weight, attention.k_proj_weight, attention.v_proj_weight
            self.q_proj, self.k_proj, self.v_proj = map(_linear, weights, biases)
        self.out_proj = _linear(attention.out_proj.weight, attention.out_proj.bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the values and the attention itself, as `nn.MultiheadAttention` does."""
        queries, keys, values = (self._heads(projected) for projected in self._projected(query, key, value))
        mask = _mask(attn_mask, key_padding_mask, queries)
        dropped = self.dropout if self.training else 0.0
        scale = self.head_dim**-0.5  # a number, so that the file does not compute it from shapes
        mixed = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, dropout_p=dropped, scale=scale)
        answer = self.out_proj(self._merged(mixed))
        if not need_weights:
            return answer, None
        scores = queries @ keys.transpose(2, 3) * scale
        weights = torch.softmax(scores if mask is None else scores + mask, dim=3)
        return answer, weights.mean(1) if average_attn_weights else weights

    def _projected(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if not self._qkv_same_embed_dim:
            return self.q_proj(query), self.k_proj(key), self.v_proj(value)
        if query is key and key is value:
            return self._parts(self.in_proj(query))
        queries, keys, values = (self._parts(self.in_proj(given))[n] for n, given in enumerate((query, key, value)))
        return queries, keys, values

    def _parts(self, projected: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        width = self.num_heads * self.head_dim
        queries, keys, values = torch.split(projected, [width] * 3, dim=-1)
        return queries, keys, values

    def _heads(self, values: Tensor) -> Tensor:
        """Map tokens to (B, heads, tokens, head width)."""
        if self.batch_first:
            return values.reshape(-1, values.shape[1], self.num_heads, self.head_dim).transpose(1, 2)
        return values.reshape(values.shape[0], -1, self.num_heads, self.head_dim).permute(1, 2, 0, 3)

    def _merged(self, mixed: Tensor) -> Tensor:
        """Map (B, heads, tokens, head width) to tokens."""
        width, tokens = self.num_heads * self.head_dim, mixed.shape[2]
        if self.batch_first:
            return mixed.transpose(1, 2).reshape(-1, tokens, width)
        return mixed.permute(2, 0, 1, 3).reshape(tokens, -1, width)


def separate_attention_(network: nn.Module) -> None:
    """Replace each attention of torch by its layers; one with added keys or without a batch stays."""
    replace_modules_(
        network,
        nn.MultiheadAttention,
        lambda attention: attention if _adds_keys(attention) else SeparateAttention(attention),
    )


def _adds_keys(attention: nn.MultiheadAttention) -> bool:
    return attention.bias_k is not None or attention.add_zero_attn


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """Return a linear layer that has these parameters themselves."""
    with torch.device("meta"):
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight = weight
    if bias is not None:
        layer.bias = bias  # type: ignore[assignment]
    return layer


def _mask(attention: Tensor | None, padding: Tensor | None, queries: Tensor) -> Tensor | None:
    """Join both masks to one that is added to the scores."""
    masks = []
    for mask in (attention, None if padding is None else padding[:, None, None]):
        if mask is not None:
            added = mask
            if mask.dtype == torch.bool:
                added = torch.zeros_like(mask, dtype=queries.dtype).masked_fill(mask, float("-inf"))
            masks.append(added.reshape(-1, queries.shape[1], *added.shape[1:]) if added.ndim == 3 else added)
    return None if not masks else masks[0] if len(masks) == 1 else masks[0] + masks[1]
