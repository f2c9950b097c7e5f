"""Estimation of a latency from recorded blocks, and of the machine's fast level.

A shared machine switches between a fast state and states up to two times slower, invisible to the CPU clock. So each
block of the candidate is bracketed by two blocks of a reference net, and counts only if both ran at the fast level.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nas_compress.devices.protocol import Latency
from nas_compress.values.device_settings import PERCENTILES

GATE = 1.05
"""A reference block counts as fast up to this factor above the fast level."""

FEWEST_BLOCKS = 5
"""Least number of blocks behind a figure, unless fewer were recorded."""

RELEARN_AFTER = 20
"""Number of measurements in a row above the fast level after which it is learned again."""

MISS_EVERY_S = 30.0
"""Least seconds between two counted misses, because a slow state of minutes may span many measurements."""

_ROBUST_RANK = 3  # the third smallest, so that a single outlier cannot set the level


@dataclass(frozen=True, kw_only=True)
class GatedLatency(Latency):
    """Latency from blocks run in the machine's fast state.

    blocks: number of values behind the figure and its spread. noisy: fewer blocks than required ran in the fast state.
    With fewer than `FEWEST_BLOCKS` the figure is extrapolated from slower blocks by the reference net and may be off by
    10 %. reference_ms: fast level of the reference net; figures of different levels are not comparable.
    """

    blocks: int
    reference_ms: float


@dataclass(frozen=True, kw_only=True)
class Block:
    """Milliseconds per run of a candidate, and of the reference net just before and after it.

    value_ms: median over the runs of the block. runs_ms: of each run.
    """

    before_ms: float
    value_ms: float
    after_ms: float
    runs_ms: tuple[float, ...] = ()

    @property
    def bracket_ms(self) -> float:
        """The slower of the two references, as the state during the block."""
        return max(self.before_ms, self.after_ms)

    def at(self, fast_ms: float) -> Block:
        """Return the block at a level of the reference, assuming that it and the candidate slow down alike."""
        sum_ms = self.before_ms + self.after_ms
        return replace(
            self,
            value_ms=self.value_ms * 2 * fast_ms / sum_ms,
            runs_ms=tuple(run * 2 * fast_ms / sum_ms for run in self.runs_ms),
        )


@dataclass(frozen=True, kw_only=True)
class FastLevel:
    """Milliseconds of the reference net in the fast state.

    misses: number of measurements in a row above it. missed_at: time of the last counted miss, in seconds since 1970.
    """

    fast_ms: float
    misses: int = 0
    missed_at: float = 0.0


def robust_minimum(values: Sequence[float]) -> float:
    """Return the third smallest value, or the largest of fewer; ValueError if there is none."""
    if not values:
        raise ValueError("at least one value must be given, but got none")
    return heapq.nsmallest(_ROBUST_RANK, values)[-1]


def references(recorded: Sequence[Block]) -> list[float]:
    """Return the reference's milliseconds in order; consecutive blocks share the value between them."""
    if not recorded:
        return []
    return [recorded[0].before_ms, *(block.after_ms for block in recorded)]


def lowered(level: FastLevel, recorded: Sequence[Block]) -> FastLevel:
    """Return the level, or a lower one if the recording shows it."""
    seen = references(recorded)
    if len(seen) < _ROBUST_RANK:
        return level
    return replace(level, fast_ms=min(level.fast_ms, robust_minimum(seen)))


def accepted(recorded: Sequence[Block], level: FastLevel) -> list[Block]:
    """Return the blocks with both references at the fast level."""
    return [block for block in recorded if block.bracket_ms <= GATE * level.fast_ms]


def after_measurement(level: FastLevel, recorded: Sequence[Block], *, now: float) -> FastLevel:
    """Return the level after a recording: lowered, kept, or learned again if it seems lost for good.

    A recording is a miss if its references are steady but all above the gate, as on a virtual machine moved to another
    host. A few misses may be a long slow state, so the level changes after RELEARN_AFTER in a row, MISS_EVERY_S apart.
    now: seconds since 1970.
    """
    level = lowered(level, recorded)
    seen = references(recorded)
    low = robust_minimum(seen)
    if low <= GATE * level.fast_ms:
        return FastLevel(fast_ms=level.fast_ms)
    # 0 <=: if the clock was set back, a last miss in the future would keep later ones from counting
    if np.median(seen) > GATE * low or 0 <= now - level.missed_at < MISS_EVERY_S:
        return level
    if level.misses + 1 < RELEARN_AFTER:
        return replace(level, misses=level.misses + 1, missed_at=now)
    return FastLevel(fast_ms=low)


def settle(recorded: Sequence[Block], level: FastLevel, *, blocks: int, percentile: str = "median") -> GatedLatency:
    """Return the latency over the accepted blocks of a recording.

    With fewer than `blocks` of them the latency is noisy. With fewer than FEWEST_BLOCKS, the blocks of the fastest
    recorded state are used instead, scaled to the fast level. percentile: the median is that of the blocks, which a
    few interrupted runs cannot move; all others are those of the single runs.
    """
    kept = accepted(recorded, level)
    noisy = len(kept) < blocks
    if len(kept) < FEWEST_BLOCKS:
        best = sorted(recorded, key=lambda block: block.bracket_ms)[:FEWEST_BLOCKS]
        kept = [block.at(level.fast_ms) for block in best]
    low, median, high = np.percentile([block.value_ms for block in kept], [25, 50, 75])
    return GatedLatency(
        latency_ms=float(median) if percentile == "median" else _over_runs(kept, percentile),
        spread=float((high - low) / median),
        blocks=len(kept),
        noisy=noisy,
        reference_ms=level.fast_ms,
    )


def _over_runs(kept: Sequence[Block], percentile: str) -> float:
    runs, percent = [run for block in kept for run in block.runs_ms], PERCENTILES[percentile]
    return float(np.mean(runs) if percent is None else np.percentile(runs, percent))
