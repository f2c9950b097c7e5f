"""Encoders of tokens (Devlin et al. 2018, arXiv 1810.04805), with any number of tokens per sample.

The embedding may be factorised, and layers may share weights, as in ALBERT (Lan et al. 2020, arXiv 1909.11942, sections
3.1 and 3.2). Padding gets no attention and no part in the pooled representation, so it never changes an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from nas_compress.errors import RequestError
from nas_compress.models.features import Observation, OneInputNetwork, Relations
from nas_compress.models.input_output_scaling import output_scale
from nas_compress.models.inputs.hashed_words import token_input
from nas_compress.models.layers import ActivationPoint, initialise_
from nas_compress.models.networks.transformer_family import HEADS, POOLING, EncoderLayers, layer_shape
from nas_compress.models.token_padding import PADDING, masked_max, masked_mean, takes_tokens, token_mask
from nas_compress.models.transformer_layers import (
    SHARED_PARTS,
    Classifier,
    EncoderLayer,
    require_whole_heads,
)
from nas_compress.values.architecture import Architecture
from nas_compress.values.family_settings import EncoderSettings
from nas_compress.values.signature import Signature

STREAM = "layers.0.attention.output"
"""The free layer with the stream's width. The tables of the embedding have no channels of their own."""

NO_ATTENTION = -1e9
"""Added to the scores of padding; finite, so that a sample of padding alone has an answer."""

EMBEDDING_STD, POSITION_STD = 0.5, 0.1
"""Standard deviations of fresh embeddings and positions."""


class TokenEmbedding(nn.Module):
    """Token ids to vectors, plus learned positions if there are any, normalised if `norm`.

    inner: numbers per token of a factorised embedding; None: `width`. longest: rows of the positions; None without.
    """

    def __init__(self, vocabulary: int, width: int, *, inner: int | None, longest: int | None, norm: bool) -> None:
        super().__init__()
        self.table = nn.Embedding(vocabulary, inner or width, padding_idx=PADDING)
        self.point = nn.Identity() if inner is None else ActivationPoint()
        self.project = nn.Identity() if inner is None else nn.Linear(inner, width)
        self.position = None if longest is None else nn.Embedding(longest, width)
        self.norm = nn.LayerNorm(width) if norm else nn.Identity()

    def forward(self, ids: Tensor) -> Tensor:
        """Map ids (B, tokens) to (B, tokens, width)."""
        values = self.project(self.point(self.table(ids)))
        if self.position is not None:
            values = values + self.position(torch.arange(ids.shape[1], device=ids.device))
        return cast(Tensor, self.norm(values))


class TokenEncoder(OneInputNetwork):
    """Embedding, encoder layers, a pooled representation and a classifier."""

    def __init__(self, shape: Architecture, settings: EncoderSettings) -> None:
        super().__init__(shape.signature.output_names[0])
        self.pooling, self.max_tokens = settings.pooling or POOLING, settings.max_tokens
        self.heads, width = settings.heads or HEADS, shape.channels(STREAM)
        self.raw_input = token_input(shape)
        self.embedding = TokenEmbedding(
            shape.signature.vocabulary,
            width,
            inner=settings.embedding_width,
            longest=settings.max_tokens if settings.positions == "learned" else None,
            norm=settings.norm == "post",
        )
        layers = [self._layer(number, shape, settings) for number in range(*shape.depths)]
        self.layers = nn.ModuleList(layers)
        for layer in layers:
            layer.share_(layers[0], SHARED_PARTS[settings.sharing])
        self.head = Classifier(width, shape.signature.vector_size, scale=output_scale(shape))
        _initialise_(self)

    def _layer(self, number: int, shape: Architecture, settings: EncoderSettings) -> EncoderLayer:
        """A layer of its own; parts to be shared have the shape of the first layer's."""
        attention, mlp, heads = layer_shape(shape, number, sharing=settings.sharing, heads=self.heads)
        return EncoderLayer(
            shape.channels(STREAM),
            attention=attention,
            mlp=mlp,
            heads=heads,
            tokens=None,
            longest=settings.max_tokens if settings.positions == "rotary" else None,
            post_norm=settings.norm == "post",
        )

    def observe(self, samples: Tensor, *, relations: bool = False) -> Observation:
        """Features `embedding`, `layer0`, `layer1`, ...: (B, tokens, width), at most `max_tokens` tokens."""
        ids = self.raw_input(samples)[:, : self.max_tokens]
        mask = token_mask(ids)
        tokens: Tensor = self.embedding(ids)
        hidden = hidden_scores(ids, tokens.dtype)
        features = {"embedding": tokens}
        seen: dict[str, Relations] = {}
        for number, layer in enumerate(self.layers):
            tokens, seen[f"layer{number}"] = layer(tokens, hidden)
            features[f"layer{number}"] = tokens
        return Observation(
            outputs=self.named(self.head(pooled(tokens, mask, self.pooling))),
            features=features,
            relations=seen if relations else {},
            mask=mask,
        )


def hidden_scores(ids: Tensor, dtype: torch.dtype) -> Tensor:
    """Return what is added to scores, (B, 1, 1, tokens), so that no token attends to padding."""
    return ((ids == PADDING).to(dtype) * NO_ATTENTION).unsqueeze(1).unsqueeze(1)


def pooled(tokens: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """Pool (B, tokens, width) to (B, width)."""
    if pooling == "first":
        return tokens[:, 0]
    return masked_mean(tokens, mask) if pooling == "mean" else masked_max(tokens, mask)


def _initialise_(network: TokenEncoder) -> None:
    """Fresh weights in place; the row of padding is 0."""
    initialise_(network)
    embedding = network.embedding
    nn.init.normal_(embedding.table.weight, std=EMBEDDING_STD)
    with torch.no_grad():
        embedding.table.weight[PADDING].zero_()
    if embedding.position is not None:
        nn.init.normal_(embedding.position.weight, std=POSITION_STD)


class Encoder(EncoderLayers[EncoderSettings]):
    """Encoder layers over the tokens of a sample."""

    summary = "encoder of tokens: pre- or post-norm layers, learned or rotary positions"
    source = "Devlin et al. 2018, arXiv 1810.04805; Lan et al. 2020, arXiv 1909.11942"
    base_widths = (64,)
    base_depths = (2,)
    settings = EncoderSettings
    title = "an encoder"
    stream = STREAM

    def fits(self, signature: Signature) -> bool:
        """Return True for token ids, and one vector as output."""
        return takes_tokens(signature)

    def build(self, architecture: Architecture) -> TokenEncoder:
        """A freshly initialised network; open settings get their defaults."""
        complete = self.complete(architecture)
        return TokenEncoder(complete, self.own(complete.settings))

    def blocks(self, network: nn.Module) -> Sequence[nn.ModuleList]:
        """The encoder layers, as one stage."""
        if not isinstance(network, TokenEncoder):
            raise RequestError(f"a network of family encoder must be a TokenEncoder, but got {type(network).__name__}")
        return [network.layers]

    def complete(self, architecture: Architecture) -> Architecture:
        """The architecture with default heads and pooling; RequestError if they do not fit."""
        settings = self.own(architecture.settings)
        heads = self.heads(settings)
        require_whole_heads(architecture, list(self.multiples(_names(architecture), settings)), heads)
        return replace(architecture, settings=replace(settings, heads=heads, pooling=settings.pooling or POOLING))


def _names(architecture: Architecture) -> list[str]:
    return [width.layer for width in architecture.widths]
