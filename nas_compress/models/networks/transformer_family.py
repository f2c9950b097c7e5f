"""The common part of the families whose one stage is a row of encoder layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, TypeVar

from torch import nn

from nas_compress.errors import RequestError
from nas_compress.models.family import Family, FreeLayers
from nas_compress.models.transformer_layers import EncoderLayer, repeats_layer
from nas_compress.values.architecture import Architecture
from nas_compress.values.family_settings import EncoderSettings, FamilySettings, TransformerSettings

HEADS = 4
MLP_RATIO = 2.0
POOLING = "mean"
"""Defaults of open settings."""

S = TypeVar("S", TransformerSettings, EncoderSettings)


class EncoderLayers(Family[S]):
    """A family of encoder layers, with one depth and one width.

    title: a network of the family, in messages. stream: the free layer with the width of the stream.
    """

    title: ClassVar[str]
    stream: ClassVar[str]
    has_attention = True

    def _layers(self, depths: tuple[int, ...], base_widths: tuple[int, ...], settings: S) -> FreeLayers:
        """The stream, then the attention and the inner width of each layer."""
        if len(depths) != 1 or len(base_widths) != 1:
            raise RequestError(
                f"{self.title} must have one depth and one width, but got depths={depths}, widths={base_widths}"
            )
        width = base_widths[0]
        inner = max(1, round(width * (settings.mlp_ratio or MLP_RATIO)))
        free = [(self.stream, width)]
        for layer in range(depths[0]):
            free += [(f"layers.{layer}.attention.query", width), (f"layers.{layer}.mlp.inner", inner)]
        return free

    def is_removable(self, block: nn.Module) -> bool:
        """Always: an encoder layer adds to its input."""
        return isinstance(block, EncoderLayer)

    def multiples(self, layers: Sequence[str], settings: FamilySettings) -> dict[str, int]:
        """The number of heads in the channels of each attention."""
        heads = self.heads(settings)
        return {layer: heads for layer in layers if layer.endswith(".attention.query")}

    def repeats(self, layer: str, settings: FamilySettings) -> bool:
        """Return True if a free layer has the weights of the first encoder layer.

        >>> from nas_compress.models.networks.vit import ViT
        >>> shared = TransformerSettings(sharing="attention")
        >>> ViT().repeats("layers.1.attention.query", shared), ViT().repeats("layers.0.attention.query", shared)
        (True, False)
        """
        return repeats_layer(layer, self.own(settings).sharing)

    def require_dynamic_ranges(self) -> None:
        """Pass: the inputs of all products are rows of single samples."""

    def heads(self, settings: FamilySettings) -> int:
        """Heads of each attention before any of them is removed."""
        return self.own(settings).heads or HEADS


def layer_shape(shape: Architecture, number: int, *, sharing: str, heads: int) -> tuple[int, int, int]:
    """Return channels of the attention, channels of the perceptron, and heads of a layer.

    A part with shared weights has the shape of the first layer's. heads: before any of them is removed.
    """
    places = (f"layers.{number}.attention.query", f"layers.{number}.mlp.inner")
    first = [f"layers.0.{place.split('.', 2)[2]}" if repeats_layer(place, sharing) else place for place in places]
    attention, mlp = (shape.channels(place) for place in first)
    own = (shape.layer_heads or (heads,) * shape.depths[0])[0 if first[0] != places[0] else number]
    return attention, mlp, own
