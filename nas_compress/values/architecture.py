"""The shape of a network as a value: enough to build it, without weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from nas_compress.values.family_settings import FamilySettings, family_settings, setting_names
from nas_compress.values.file_constants import INPUT_NAME
from nas_compress.values.normalisation import Normalisation
from nas_compress.values.signature import Signature


@dataclass(frozen=True, kw_only=True)
class Width:
    """Output channels of one layer, before rounding (`asked`) and rounded."""

    layer: str
    asked: float
    channels: int


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """All that decides the tensors of a network.

    signature: its inputs and outputs.
    normalisation: mean and spread by input name, applied inside the network; a mapping is accepted.
    depths: blocks of each stage.
    settings: the family's own, by default its defaults.
    factorization, rank_fraction: as in `Shape`.
    layer_heads: heads of each attention, if they differ between layers. Layers with shared weights count once.

    >>> Architecture.of_images(
    ...     (1, 8, 8), classes=10, mean=5, std=6.0, family="resnet", depths=(1, 1, 1), widths=()
    ... ).normalisation_of("input")
    Normalisation(mean=5, std=6.0)
    """

    family: str
    signature: Signature
    normalisation: tuple[tuple[str, Normalisation], ...] | Mapping[str, Normalisation] = ()
    depths: tuple[int, ...]
    widths: tuple[Width, ...]
    settings: FamilySettings = field(default_factory=FamilySettings)
    factorization: str = "none"
    rank_fraction: float = 1.0
    layer_heads: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        given = self.normalisation
        pairs = given.items() if isinstance(given, Mapping) else given
        object.__setattr__(self, "normalisation", tuple(pairs))
        if type(self.settings) is FamilySettings:
            object.__setattr__(self, "settings", family_settings(self.family, {}))

    @classmethod
    def of_images(
        cls,
        shape: tuple[int, int, int],
        *,
        classes: int,
        mean: float,
        std: float,
        family: str,
        depths: tuple[int, ...],
        widths: tuple[Width, ...],
        settings: FamilySettings | None = None,
    ) -> Architecture:
        """A classifier of raw images of that shape (channels, height, width)."""
        return cls(
            family=family,
            signature=Signature.of_images(shape, classes=classes),
            normalisation={INPUT_NAME: Normalisation(mean=mean, std=std)},
            depths=depths,
            widths=widths,
            settings=FamilySettings() if settings is None else settings,
        )

    def channels(self, layer: str) -> int:
        """Output channels of one layer, by its module path."""
        for width in self.widths:
            if width.layer == layer:
                return width.channels
        raise KeyError(layer)

    def normalisation_of(self, name: str) -> Normalisation:
        """Mean and spread of an input; 0 and 1 for an input without normalisation."""
        return dict(self.normalisation).get(name, Normalisation(mean=0, std=1.0))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` reads them back."""
        return {
            "family": self.family,
            "signature": self.signature.to_dict(),
            "normalisation": {name: values.to_dict() for name, values in dict(self.normalisation).items()},
            "depths": list(self.depths),
            "widths": [asdict(width) for width in self.widths],
            "settings": self.settings.to_dict(),
            "factorization": self.factorization,
            "rank_fraction": self.rank_fraction,
            "layer_heads": list(self.layer_heads),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Architecture:
        """The inverse of `to_dict`; also reads the flat form of images of earlier releases."""
        known = dict(values)
        if "signature" not in known:
            shape = tuple(known.pop("input_shape"))
            known["signature"] = Signature.of_images(shape, classes=known.pop("classes")).to_dict()
            known["normalisation"] = {INPUT_NAME: {"mean": known.pop("mean"), "std": known.pop("std")}}
            known["settings"] = {name: known.pop(name) for name in setting_names() if name in known}
        known["signature"] = Signature.from_dict(known["signature"])
        known["normalisation"] = {name: Normalisation(**each) for name, each in known["normalisation"].items()}
        known["depths"] = tuple(known["depths"])
        known["layer_heads"] = tuple(known.get("layer_heads", ()))
        known["widths"] = tuple(Width(**width) for width in known["widths"])
        known["settings"] = family_settings(known["family"], known["settings"])
        return cls(**known)
