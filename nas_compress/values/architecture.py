"""The shape of a network as a value: enough to build it, nothing about weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Width:
    """The output channels of one layer: what the vote and the multiplier asked for, and what it got after rounding."""

    layer: str
    asked: float
    channels: int


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A family's network: input (channels, height, width), classes, blocks per stage and per-layer channels.

    `stem_stride` is the stride of the first layer. `mean` and `std` are the data's, in raw sample values: the network
    normalises its own input. `heads`, `patch_size`, `pooling` and `distillation_token` are a transformer's, and so are
    `layer_heads`, where its layers differ in their number of heads, and `sharing`: layers that share weights have one
    width and one number of heads, the first one's.
    """

    family: str
    input_shape: tuple[int, int, int]
    classes: int
    depths: tuple[int, ...]
    widths: tuple[Width, ...]
    mean: int
    std: float
    stem_stride: int = 1
    heads: int | None = None
    patch_size: int | None = None
    pooling: str | None = None
    distillation_token: bool = False
    factorization: str = "none"
    rank_fraction: float = 1.0
    layer_heads: tuple[int, ...] = ()
    sharing: str = "none"

    def channels(self, layer: str) -> int:
        """Output channels of one layer, by the layer's module path."""
        for width in self.widths:
            if width.layer == layer:
                return width.channels
        raise KeyError(layer)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Architecture:
        """The architecture that `dataclasses.asdict` described, also after a trip through JSON."""
        known = dict(values)
        known["input_shape"] = tuple(known["input_shape"])
        known["depths"] = tuple(known["depths"])
        known["layer_heads"] = tuple(known.get("layer_heads", ()))
        known["widths"] = tuple(Width(**width) for width in known["widths"])
        return cls(**known)
