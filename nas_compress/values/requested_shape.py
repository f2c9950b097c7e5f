"""Shape of a candidate: family, blocks, width and form of the layers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from nas_compress.errors import RequestError, require_known
from nas_compress.values.family_settings import PRUNED, FamilySettings, family_settings, settings_class

FACTORIZATIONS = ("none", "low_rank", "tucker")
"""Layers as they are, as products of two thinner ones, or convolutions as products of three."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The shape of a candidate before pruning.

    family: a name of `models.families`, or `pruned` for the teacher's own graph with fewer channels.
    depths: blocks of each stage; () for `pruned`.
    width_multiplier: factor of every width.
    round_to: widths are multiples of it; 0 is the step of the device.
    factorization: one of FACTORIZATIONS.
    rank_fraction: channels between the factors, as a fraction of the layer's.
    settings: the family's own; its defaults if not given.
    """

    family: str
    depths: tuple[int, ...]
    width_multiplier: float = 1.0
    round_to: int = 0
    factorization: str = "none"
    rank_fraction: float = 1.0
    settings: FamilySettings = field(default_factory=FamilySettings)

    def __post_init__(self) -> None:
        own = settings_class(self.family)
        if type(self.settings) is FamilySettings:
            object.__setattr__(self, "settings", family_settings(self.family, {}))
        if not isinstance(self.settings, own):
            raise RequestError(
                f"settings of family {self.family!r} must be {own.__name__}, but got {type(self.settings).__name__}"
            )
        if self.family == PRUNED and self.depths:
            raise RequestError(
                f"depths=() must hold for family 'pruned', which keeps the teacher's own, but got depths={self.depths}"
            )
        wrong = any(depth < 1 or depth != int(depth) for depth in self.depths)
        if wrong or not (self.depths or self.family == PRUNED):
            raise RequestError(f"depths must be one or more blocks per stage, but got depths={self.depths}")
        # one form for each value: equal candidates share a fingerprint
        object.__setattr__(self, "depths", tuple(int(depth) for depth in self.depths))
        object.__setattr__(self, "width_multiplier", float(self.width_multiplier))
        object.__setattr__(self, "rank_fraction", float(self.rank_fraction))
        if not 0 < self.width_multiplier < math.inf:
            raise RequestError(
                f"0 < width_multiplier < inf must hold, but got width_multiplier={self.width_multiplier}"
            )
        if self.round_to < 0:
            raise RequestError(f"round_to >= 0 must hold, but got round_to={self.round_to}")
        require_known("factorization", self.factorization, FACTORIZATIONS)
        if not 0 < self.rank_fraction <= 1 or (self.factorization == "none") != (self.rank_fraction == 1):
            raise RequestError(
                "0 < rank_fraction < 1 must hold with a factorization, and 1 without, "
                f"but got factorization={self.factorization!r}, rank_fraction={self.rank_fraction}"
            )
