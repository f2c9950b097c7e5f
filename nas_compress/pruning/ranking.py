"""From importances to the fraction of each group that survives: who competes with whom, and what each layer keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nas_compress.errors import RequestError, require_known
from nas_compress.pruning.channel_groups import ChannelGroup

RANKINGS: Mapping[str, str] = {
    "global": "the channels of all groups compete, and so do their heads: the vote decides how much each layer loses",
    "local": "the channels of one group compete: each layer loses the same fraction",
    "isomorphic": "the channels of groups of the same structure compete (Fang et al. 2024, arXiv 2407.04616)",
}
"""Who competes with whom, by the ranking's name."""

CHANNEL_WORDS = ("pruning_ratio", "channel(s)")
"""What is refused, in words: the setting, and what it removes."""


def surviving_fractions(
    groups: Sequence[ChannelGroup],
    ratio: float,
    *,
    ranking: str = "global",
    min_channels: int = 1,
    head_ratio: float = 0.0,
    min_heads: int = 1,
) -> tuple[float, ...]:
    """Remove the `ratio` least important channels of each ranking's pool; the fraction that each group keeps.

    Heads compete with heads, not with channels. The `min_channels` most important ones of each group stay (all of a
    smaller group), and others of its pool go in their place. With a `head_ratio` the heads of all attention compete
    for it alone, and each layer keeps `min_heads`. RequestError where a pool has too few others, or there are no heads.
    """
    require_known("a pruning ranking", ranking, RANKINGS)
    if not 0 <= ratio < 1:
        raise RequestError(f"0 <= pruning_ratio < 1 must hold, but got pruning_ratio={ratio}")
    apart = [number for number, group in enumerate(groups) if head_ratio > 0 and group.attention]
    if head_ratio > 0:
        require_heads(groups)
    pools: dict[object, list[int]] = {}
    for number, group in enumerate(groups):
        if number in apart:
            continue
        key = {"global": group.unit, "local": number, "isomorphic": group.kind}[ranking]
        pools.setdefault(key, []).append(number)
    kept: dict[int, float] = {}
    for members in pools.values():
        shares = _pool([groups[number] for number in members], ratio, min_channels)
        kept.update(zip(members, shares, strict=True))
    if apart:
        shares = _pool([groups[number] for number in apart], head_ratio, min_heads, ("head_ratio", "head(s)"))
        kept.update(zip(apart, shares, strict=True))
    return tuple(kept[number] for number in range(len(groups)))


def require_heads(groups: Sequence[ChannelGroup]) -> None:
    """Raise RequestError where none of the groups is of attention."""
    if not any(group.attention for group in groups):
        raise RequestError("head_ratio needs a teacher with attention heads, but the teacher has none")


def _pool(
    groups: Sequence[ChannelGroup], ratio: float, min_channels: int, words: tuple[str, str] = CHANNEL_WORDS
) -> list[float]:
    sizes = [len(group.importance) for group in groups]
    free = [group.importance.copy() for group in groups]
    for scores in free:
        scores[np.argsort(scores, kind="stable")[max(0, len(scores) - min_channels) :]] = np.inf
    pooled = np.concatenate(free)
    asked, possible = round(ratio * sum(sizes)), int(np.isfinite(pooled).sum())
    if len(groups) == 1:
        asked = min(asked, possible)  # alone, a layer keeps its least number
    if asked > possible:
        smallest = min(groups, key=lambda group: len(group.importance))
        raise RequestError(
            f"each layer must keep {min_channels} {words[1]}, but {words[0]}={ratio} removes {asked} of "
            f"{sum(sizes)} and would empty {smallest.layers[0]} ({len(smallest.importance)} {words[1]})"
        )
    removed = np.zeros(len(pooled), dtype=bool)
    removed[np.argsort(pooled, kind="stable")[:asked]] = True
    parts = np.split(removed, np.cumsum(sizes)[:-1])
    return [float(1 - part.mean()) for part in parts]
