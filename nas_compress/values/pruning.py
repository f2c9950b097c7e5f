"""Parts removed by a candidate: channels, heads, blocks and single weights."""

from __future__ import annotations

from dataclasses import dataclass

from nas_compress.errors import RequestError, require_known
from nas_compress.values.family_settings import whole_number

INITS = ("scratch", "inherit")
"""Fresh weights, or those of the teacher's remaining channels."""

ZERO_PATTERNS = ("none", "one_shot", "gradual", "two_four", "targeted_weight", "targeted_unit")
"""Ways to set weights to zero: the smallest at once or gradually, two of each four inputs, targeted dropout."""


@dataclass(frozen=True, kw_only=True)
class Pruning:
    """Removed channels, heads and blocks of the teacher.

    A candidate's flat form names ratio, criterion, ranking, min_channels and rounds with the prefix `pruning_`.

    ratio: fraction of the channels to remove.
    criterion: importance for the ranking of channels, from `pruning.importance.CRITERIA`.
    ranking: groups of competing channels, from `pruning.ranking.RANKINGS`.
    min_channels: least channels of each layer.
    kept_blocks: remaining blocks if a student of the teacher's family has fewer, from `pruning.depth.KEPT_BLOCKS`.
    head_ratio: fraction of the attention heads to remove; attention then ignores `ratio`.
    min_heads: least heads of each layer.
    init: `scratch`, or `inherit` to fine-tune the teacher's remaining weights.
    rounds: number of cuts of a student of encoder layers that inherits. 1 cuts before the training; n cuts a little
    before each of the first n epochs (HomoDistil, Liang et al. 2023, arXiv 2302.09632).
    """

    ratio: float = 0.0
    criterion: str = "uniform"
    ranking: str = "global"
    min_channels: int = 1
    kept_blocks: str = "first"
    head_ratio: float = 0.0
    min_heads: int = 1
    init: str = "scratch"
    rounds: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "ratio", float(self.ratio))
        object.__setattr__(self, "head_ratio", float(self.head_ratio))
        if not 0 <= self.ratio < 1:
            raise RequestError(f"0 <= pruning_ratio < 1 must hold, but got pruning_ratio={self.ratio}")
        if self.min_channels < 1:
            raise RequestError(f"pruning_min_channels >= 1 must hold, but got pruning_min_channels={self.min_channels}")
        if not 0 <= self.head_ratio < 1:
            raise RequestError(f"0 <= head_ratio < 1 must hold, but got head_ratio={self.head_ratio}")
        object.__setattr__(self, "rounds", whole_number("pruning_rounds", self.rounds))
        object.__setattr__(self, "min_heads", whole_number("min_heads", self.min_heads))
        require_known("init", self.init, INITS)


@dataclass(frozen=True, kw_only=True)
class Sparsity:
    """Weights set to zero during training, within dense shapes.

    A candidate's flat form calls them `zero_pattern` and `zero_fraction`.

    pattern: one of ZERO_PATTERNS.
    fraction: part of the weights; 0.5 for `two_four`.
    """

    pattern: str = "none"
    fraction: float = 0.0

    def __post_init__(self) -> None:
        require_known("zero_pattern", self.pattern, ZERO_PATTERNS)
        object.__setattr__(self, "fraction", float(self.fraction))
        if not 0 <= self.fraction < 1 or (self.pattern == "none") != (self.fraction == 0):
            raise RequestError(
                "0 < zero_fraction < 1 must hold with a zero_pattern, and 0 without, "
                f"but got zero_pattern={self.pattern!r}, zero_fraction={self.fraction}"
            )
        if self.pattern == "two_four" and self.fraction != 0.5:
            raise RequestError(
                f"zero_fraction=0.5 must hold for zero_pattern 'two_four', but got zero_fraction={self.fraction}"
            )
