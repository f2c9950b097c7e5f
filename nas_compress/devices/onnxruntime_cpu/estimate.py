"""From recorded blocks to one latency: which blocks count, and when the fast level must be learned anew.

A shared machine switches between a fast state and one up to two times slower, and the CPU clock does not
see it. So each block of the candidate stands between two blocks of a reference net, and counts only if both
ran at the fast level.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nas_compress.devices.device import Latency

GATE = 1.05
"""A reference block up to this factor above the fast level was run in the fast state."""

FEWEST_BLOCKS = 5
"""A figure never rests on fewer blocks, where so many were recorded."""

RELEARN_AFTER = 20
"""So many measurements in a row must miss the fast level before it is given up."""

MISS_EVERY_S = 30.0
"""Misses count at most this often: slow states can last for minutes, with many measurements in them."""

_ROBUST_RANK = 3  # the third smallest: a lone stray value cannot set the level


@dataclass(frozen=True, kw_only=True)
class GatedLatency(Latency):
    """A latency with one thread, from blocks that ran in the machine's fast state.

    blocks: number of values behind the figure and its spread. noisy: fewer blocks than required ran in the fast state;
    with fewer than `FEWEST_BLOCKS` the figure is extrapolated from slower blocks by the reference net and may be off by
    10 %. reference_ms: fast level of the reference net; figures of different levels are not comparable.
    """

    blocks: int
    reference_ms: float


@dataclass(frozen=True, kw_only=True)
class Block:
    """A candidate's milliseconds per run, and the reference net's just before and just after it."""

    before_ms: float
    value_ms: float
    after_ms: float

    @property
    def bracket_ms(self) -> float:
        """The slower of the two references: the state that the block was run in."""
        return max(self.before_ms, self.after_ms)

    def at(self, fast_ms: float) -> float:
        """The candidate's milliseconds if it slows down as the reference does, at this level of the reference."""
        return self.value_ms * 2 * fast_ms / (self.before_ms + self.after_ms)


@dataclass(frozen=True, kw_only=True)
class FastLevel:
    """The reference net's milliseconds in the fast state, and how many measurements in a row missed it.

    missed_at: when a miss was last counted, in seconds since 1970.
    """

    fast_ms: float
    misses: int = 0
    missed_at: float = 0.0


def robust_minimum(values: Sequence[float]) -> float:
    """The third smallest value, or the largest of fewer; ValueError where there is none."""
    if not values:
        raise ValueError("at least one value must be given, but got none")
    return heapq.nsmallest(_ROBUST_RANK, values)[-1]


def references(recorded: Sequence[Block]) -> list[float]:
    """The reference's milliseconds as they ran; two blocks in a row share the one between them."""
    if not recorded:
        return []
    return [recorded[0].before_ms, *(block.after_ms for block in recorded)]


def lowered(level: FastLevel, recorded: Sequence[Block]) -> FastLevel:
    """The level, or a lower one that the recording shows."""
    seen = references(recorded)
    if len(seen) < _ROBUST_RANK:
        return level
    return replace(level, fast_ms=min(level.fast_ms, robust_minimum(seen)))


def accepted(recorded: Sequence[Block], level: FastLevel) -> list[Block]:
    """The blocks whose two references were both at the fast level."""
    return [block for block in recorded if block.bracket_ms <= GATE * level.fast_ms]


def after_measurement(level: FastLevel, recorded: Sequence[Block], *, now: float) -> FastLevel:
    """The level to go on with: lowered, kept, or learned anew where it seems out of reach for good.

    A miss is a recording whose references are steady but all above the gate, as on a virtual machine that was
    moved to another host. Few of them may be a long slow state, so the level changes after RELEARN_AFTER in a row,
    MISS_EVERY_S apart. now: seconds since 1970.
    """
    level = lowered(level, recorded)
    seen = references(recorded)
    low = robust_minimum(seen)
    if low <= GATE * level.fast_ms:
        return FastLevel(fast_ms=level.fast_ms)
    # a clock that was set back must not make the last miss one of the future, after which none would ever count
    if np.median(seen) > GATE * low or 0 <= now - level.missed_at < MISS_EVERY_S:
        return level
    if level.misses + 1 < RELEARN_AFTER:
        return replace(level, misses=level.misses + 1, missed_at=now)
    return FastLevel(fast_ms=low)


def settle(recorded: Sequence[Block], level: FastLevel, *, blocks: int) -> GatedLatency:
    """The latency that a recording shows: the median over its accepted blocks.

    With fewer than `blocks` of them the latency is noisy; with hardly any, the blocks of the best state
    stand in, brought to the fast level.
    """
    kept = accepted(recorded, level)
    noisy = len(kept) < blocks
    values = [block.value_ms for block in kept]
    if len(kept) < FEWEST_BLOCKS:
        best = sorted(recorded, key=lambda block: block.bracket_ms)[:FEWEST_BLOCKS]
        values = [block.at(level.fast_ms) for block in best]
    low, median, high = np.percentile(values, [25, 50, 75])
    return GatedLatency(
        latency_ms=float(median),
        spread=float((high - low) / median),
        blocks=len(values),
        noisy=noisy,
        reference_ms=level.fast_ms,
    )
