"""Small vision transformer (Dosovitskiy et al. 2021, arXiv 2010.11929), also with a distillation token.

The distillation token and its classifier are DeiT's (Touvron et al. 2021, arXiv 2012.12877, section 4). Layers may
share weights as ALBERT's do (Lan et al. 2020, arXiv 1909.11942, section 3.1): stored once, computed as often as there
are layers.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from torch import Tensor, nn

from nas_compress.errors import RequestError, require_known
from nas_compress.models.features import ImageNetwork, ObservableNetwork, Observation, Relations
from nas_compress.models.layers import ActivationPoint, RawInput, initialise_
from nas_compress.models.transformer_layers import EncoderLayer, PatchEmbedding
from nas_compress.values.architecture import Architecture
from nas_compress.values.candidate import POOLINGS, SHARINGS
from nas_compress.values.model_file import OUTPUT_NAME

HEADS = 4
MLP_RATIO = 2.0
POOLING = "mean"
"""What a candidate gets that leaves them open."""

EMBEDDING_STD = 0.5
"""Of fresh patches, positions and tokens, a normal distribution cut off at two standard deviations.

Positions begin as strong as patches: with the usual 0.02 beside patches of 1 the same network learns them so late that
after 14 epochs of handwritten digits it is right on 0.57 of them instead of 0.95.
"""


def layers(
    depths: tuple[int, ...], base_widths: tuple[int, ...], mlp_ratio: float | None = None
) -> list[tuple[str, int]]:
    """Free widths as (layer path, base channels): the stream, then each layer's attention and inner width.

    `depths` and `base_widths` must have one entry each: the encoder's layers, and the width of the stream.
    """
    if len(depths) != 1 or len(base_widths) != 1:
        raise RequestError(f"a vit must have one depth and one width, but got depths={depths}, widths={base_widths}")
    depth, width = depths[0], base_widths[0]
    inner = max(1, round(width * (mlp_ratio or MLP_RATIO)))
    free = [("embedding.conv", width)]
    for layer in range(depth):
        free += [(f"layers.{layer}.attention.query", width), (f"layers.{layer}.mlp.inner", inner)]
    return free


def multiples(layers: Sequence[str], heads: int | None) -> dict[str, int]:
    """The free layers whose channels are shared among the heads, each with their number."""
    return {layer: heads or HEADS for layer in layers if layer.endswith(".attention.query")}


def repeats(layer: str, sharing: str) -> bool:
    """Whether a free layer has the weights of the first encoder layer's, and so its width.

    >>> repeats("layers.1.attention.query", "attention"), repeats("layers.0.mlp.inner", "all")
    (True, False)
    """
    place, number, part, *_ = [*layer.split("."), "", ""]
    return place == "layers" and number != "0" and part in _shared_parts(sharing)


def _shared_parts(sharing: str) -> tuple[str, ...]:
    return {"attention": ("attention",), "mlp": ("mlp",), "all": ("attention", "mlp")}.get(sharing, ())


def complete(architecture: Architecture) -> Architecture:
    """The architecture with the family's defaults for what it leaves open; RequestError where parts do not fit."""
    _, height, width = architecture.input_shape
    size = architecture.patch_size or default_patch_size(height, width)
    if size < 1 or height % size or width % size:
        raise RequestError(
            f"patch_size must divide height and width of the input, but got patch_size={size} for {height}x{width}"
        )
    heads, pooling = architecture.heads or HEADS, architecture.pooling or POOLING
    require_known("pooling", pooling, POOLINGS)
    require_known("sharing", architecture.sharing, SHARINGS)
    attentions = list(multiples([width.layer for width in architecture.widths], heads))
    for layer, count in zip(attentions, architecture.layer_heads or (heads,) * len(attentions), strict=True):
        channels = architecture.channels(layer)
        if count < 1 or channels % count:
            raise RequestError(
                f"heads must divide the channels of each attention, but got heads={count} for {channels} of {layer}"
            )
    return dataclasses.replace(architecture, heads=heads, patch_size=size, pooling=pooling)


def default_patch_size(height: int, width: int) -> int:
    """The largest common divisor of both sides that is at most the square root of the smaller.

    >>> [default_patch_size(side, side) for side in (8, 28, 32, 224)]
    [2, 4, 4, 14]
    """
    return max(
        size for size in range(1, math.isqrt(min(height, width)) + 1) if height % size == 0 and width % size == 0
    )


def build(architecture: Architecture) -> ObservableNetwork:
    """A freshly initialised network of a complete architecture."""
    return VisionTransformer(complete(architecture))


class VisionTransformer(ImageNetwork):
    """Patches, encoder layers, a pooled representation, and one classifier, or two with a distillation token."""

    def __init__(self, shape: Architecture) -> None:
        super().__init__()
        inputs, height, width = shape.input_shape
        size, self.width = shape.patch_size or 1, shape.channels("embedding.conv")
        self.heads = shape.heads or HEADS
        patches = (height // size) * (width // size)
        self.pools_patches = shape.pooling == "mean"
        extra = (not self.pools_patches) + shape.distillation_token
        self.tokens = extra + patches
        self.raw_input = RawInput(shape.mean, shape.std)
        self.embedding = PatchEmbedding(inputs, self.width, patch_size=size, patches=patches, extra_tokens=extra)
        layers = [self._layer(number, shape) for number in range(*shape.depths)]
        self.layers = nn.ModuleList(layers)
        for layer in layers:
            layer.share_(layers[0], _shared_parts(shape.sharing))
        self.head = Classifier(self.width, shape.classes)
        self.distillation_head = Classifier(self.width, shape.classes) if shape.distillation_token else None
        _initialise_(self)

    def _layer(self, number: int, shape: Architecture) -> EncoderLayer:
        """A layer of its own; what it is to share takes the first one's shape."""
        places = (f"layers.{number}.attention.query", f"layers.{number}.mlp.inner")
        first = [f"layers.0.{place.split('.', 2)[2]}" if repeats(place, shape.sharing) else place for place in places]
        attention, mlp = (shape.channels(place) for place in first)
        heads = (shape.layer_heads or (self.heads,) * shape.depths[0])[0 if first[0] != places[0] else number]
        return EncoderLayer(self.width, attention=attention, mlp=mlp, heads=heads, tokens=self.tokens)

    def observe(self, samples: Tensor, *, relations: bool = False) -> Observation:
        """Features `embedding`, `layer0`, `layer1`, ...: (B, tokens, width), tokens as the embedding orders them."""
        tokens: Tensor = self.embedding(self.raw_input(samples))
        features = {"embedding": tokens}
        seen: dict[str, Relations] = {}
        values = tokens.reshape(-1, self.width)
        for number, layer in enumerate(self.layers):
            values, seen[f"layer{number}"] = layer(values)
            tokens = values.reshape(-1, self.tokens, self.width)
            features[f"layer{number}"] = tokens
        extra = self.embedding.extra_tokens
        pooled = (tokens[:, extra:] if extra else tokens).mean(1) if self.pools_patches else tokens[:, 0]
        logits = self.head(pooled)
        taught = self.distillation_head(tokens[:, extra - 1]) if self.distillation_head else None
        return Observation(
            outputs={OUTPUT_NAME: logits if taught is None else (logits + taught) / 2},
            features=features,
            relations=seen if relations else {},
            label_head=None if taught is None else {OUTPUT_NAME: logits},
            teacher_head=None if taught is None else {OUTPUT_NAME: taught},
            patches=self.embedding.patches,
        )


class Classifier(nn.Module):
    """Normalisation, an activation point, and the linear classifier. Logits stay float."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.norm, self.point = nn.LayerNorm(width), ActivationPoint()
        self.linear = nn.Linear(width, classes)

    def forward(self, values: Tensor) -> Tensor:
        """Map (B, width) to logits (B, classes)."""
        answer: Tensor = self.linear(self.point(self.norm(values)))
        return answer


def _initialise_(network: VisionTransformer) -> None:
    """Fresh weights in place: patches and positions of one strength, the rest as elsewhere."""
    initialise_(network)
    embedding = network.embedding
    fan_in = embedding.conv.weight[0].numel()
    nn.init.normal_(embedding.conv.weight, std=EMBEDDING_STD * fan_in**-0.5)
    nn.init.trunc_normal_(embedding.position, std=EMBEDDING_STD, a=-2 * EMBEDDING_STD, b=2 * EMBEDDING_STD)
