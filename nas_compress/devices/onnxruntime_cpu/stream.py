"""Timing of a file on a stream of real samples, in parts between runs of the reference net."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import TypeVar

from nas_compress.devices.onnxruntime_cpu.latency_from_blocks import Block, FastLevel, accepted
from nas_compress.devices.onnxruntime_cpu.timed_session import clock_of, open_timed, try_run
from nas_compress.devices.protocol import Sample, StreamLatency
from nas_compress.errors import RequestError
from nas_compress.values.device_settings import DEFAULT_SETTINGS, DeviceSettings
from nas_compress.values.exits.figures import FEWEST_SAMPLES

Item = TypeVar("Item")

PASSES = 5
"""Measurements of each sample in the fast state; the latency is their median."""

PASS_S = 1.0
"""Longest pass over the samples; fewer samples are timed if it would take longer."""

_WARM_UP = 5


class TimedStream:
    """A file and samples, in parts of consecutive samples that take about `block_ms`.

    RequestError for no sample, or if the file cannot run one.
    """

    def __init__(
        self,
        source: Path | bytes,
        samples: Sequence[Sample],
        *,
        block_ms: float,
        settings: DeviceSettings = DEFAULT_SETTINGS,
    ) -> None:
        if not samples:
            raise RequestError("at least one sample must be timed, but got none")
        session = open_timed(source, settings)
        runs = [partial(session.run, None, dict(sample)) for sample in samples]
        self._clock = clock_of(settings)
        try_run(runs[0], source, 1)
        first = [self._seconds(run) for run in spread(runs, _WARM_UP)]
        typical = max(sum(first) / len(first), 1e-6)
        runs = spread(runs, max(FEWEST_SAMPLES, int(PASS_S / typical)))
        length = max(1, round(block_ms / (typical * 1e3)))
        starts = range(0, len(runs), length)
        self._parts = [(runs[start - 1], runs[start : start + length]) for start in starts]

    @property
    def parts(self) -> int:
        """The number of parts."""
        return len(self._parts)

    def runs_ms(self, part: int) -> list[float]:
        """Run the samples of a part once; return the milliseconds of each."""
        before, runs = self._parts[part]
        before()  # the reference net ran last and has taken the caches
        return [self._seconds(run) * 1e3 for run in runs]

    def _seconds(self, run: partial[object]) -> float:
        start = self._clock()
        run()
        return self._clock() - start


def spread(items: Sequence[Item], count: int) -> list[Item]:
    """Return at most `count` items at equal distances.

    >>> spread([0, 1, 2, 3, 4, 5], 3)
    [0, 2, 4]
    """
    kept = min(count, len(items))
    return [items[place * len(items) // kept] for place in range(kept)]


def settle_stream(recorded: Sequence[Sequence[Block]], level: FastLevel, *, alone: bool) -> StreamLatency:
    """Return the latency of each sample: the median over the passes of its part in the fast state.

    Without PASSES of them, those of the fastest recorded state are scaled to the fast level, and the result is noisy.
    recorded: blocks of each part, at least one. alone: no other process computed.
    """
    each_ms: list[float] = []
    noisy = not alone
    for blocks in recorded:
        kept = accepted(blocks, level)
        if len(kept) < PASSES:
            noisy = True
            best = sorted(blocks, key=lambda block: block.bracket_ms)[:PASSES]
            kept = [block.at(level.fast_ms) for block in best]
        each_ms += [median(runs) for runs in zip(*(block.runs_ms for block in kept), strict=True)]
    return StreamLatency(each_ms=tuple(each_ms), noisy=noisy)
