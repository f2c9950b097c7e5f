"""Fraction of each group to keep, from the importance of its units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nas_compress.errors import RequestError, require_known
from nas_compress.pruning.channel_groups import ChannelGroup

RANKINGS: Mapping[str, str] = {
    "global": "the channels of all groups compete, and so do all heads: layers lose different fractions",
    "local": "the channels of one group compete: each layer loses the same fraction",
    "isomorphic": "the channels of groups of the same structure compete (Fang et al. 2024, arXiv 2407.04616)",
}
"""Summaries of the rankings by name."""

CHANNEL_WORDS = ("pruning_ratio", "channel(s)")
"""Setting and unit in error messages."""


def require_ranking(name: str) -> None:
    """Raise RequestError unless the name is in RANKINGS."""
    require_known("a pruning ranking", name, RANKINGS)


def surviving_fractions(
    groups: Sequence[ChannelGroup],
    ratio: float,
    *,
    ranking: str = "global",
    min_channels: int = 1,
    head_ratio: float = 0.0,
    min_heads: int = 1,
) -> tuple[float, ...]:
    """Remove the least important units of each pool of groups; return the fraction kept in each group.

    ratio: fraction of each pool to remove.
    ranking: name in RANKINGS; it defines the pools. Heads and channels are never in one pool.
    min_channels: units kept in each group, or all of a smaller group; other units of the pool are removed instead.
    head_ratio: if above 0, heads of all attention layers form a pool with this ratio.
    min_heads: heads kept in each layer of that pool.
    RequestError if the ranking is unknown, a pool has too few units to remove, or there are no heads.
    """
    if not 0 <= ratio < 1:
        raise RequestError(f"0 <= pruning_ratio < 1 must hold, but got pruning_ratio={ratio}")
    require_ranking(ranking)
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
    """Raise RequestError unless a group consists of attention heads."""
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
        asked = min(asked, possible)  # a single layer keeps its minimum
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
