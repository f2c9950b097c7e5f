"""The shape of a network as a value: enough to build it, nothing about weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from nas_compress.values.family_settings import FamilySettings, family_settings, flat_settings, setting_names


@dataclass(frozen=True, kw_only=True)
class Width:
    """Output channels of one layer: as pruning and multiplier ask for them, and rounded."""

    layer: str
    asked: float
    channels: int


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Everything that decides the tensors of a network.

    input_shape: channels, height, width.
    depths: blocks of each stage.
    mean, std: normalisation of the input inside the network, in raw sample values.
    settings: the family's own; its defaults if not given.
    factorization, rank_fraction: see `Shape`.
    layer_heads: heads of each attention, if they differ between layers. Layers that share weights count once.
    """

    family: str
    input_shape: tuple[int, int, int]
    classes: int
    depths: tuple[int, ...]
    widths: tuple[Width, ...]
    mean: int
    std: float
    settings: FamilySettings = field(default_factory=FamilySettings)
    factorization: str = "none"
    rank_fraction: float = 1.0
    layer_heads: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if type(self.settings) is FamilySettings:
            object.__setattr__(self, "settings", family_settings(self.family, {}))

    def channels(self, layer: str) -> int:
        """Output channels of one layer, by its module path."""
        for width in self.widths:
            if width.layer == layer:
                return width.channels
        raise KeyError(layer)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, settings among them; `from_dict` reads them back."""
        values = asdict(self)
        del values["settings"]
        return values | flat_settings(self.settings)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Architecture:
        """The architecture that `to_dict` described."""
        known = dict(values)
        known["input_shape"] = tuple(known["input_shape"])
        known["depths"] = tuple(known["depths"])
        known["layer_heads"] = tuple(known.get("layer_heads", ()))
        known["widths"] = tuple(Width(**width) for width in known["widths"])
        given = {name: known.pop(name) for name in setting_names() if name in known}
        return cls(**known, settings=family_settings(known["family"], given))
