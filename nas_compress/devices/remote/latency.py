"""Latencies on a device that is reached by a command. The agent records, and this machine estimates and caches."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from nas_compress.devices.onnx_session import read_content, start_session
from nas_compress.devices.onnxruntime_cpu.latency_cache import LatencyCache
from nas_compress.devices.onnxruntime_cpu.latency_from_blocks import (
    GATE,
    FastLevel,
    GatedLatency,
    after_measurement,
    robust_minimum,
    settle,
)
from nas_compress.devices.onnxruntime_cpu.machine import describe_machine
from nas_compress.devices.onnxruntime_cpu.reference_net import REFERENCE_NAME, reference_net
from nas_compress.devices.onnxruntime_cpu.timed_session import random_batch
from nas_compress.devices.onnxruntime_cpu.training_pause import shared_window
from nas_compress.devices.protocol import NO_SIZES, Sizes
from nas_compress.devices.remote.connection import Connection
from nas_compress.devices.remote.facts import Facts
from nas_compress.devices.remote.link import Arrays, Link, Recording
from nas_compress.errors import RequestError, first_line
from nas_compress.files import cache_folder
from nas_compress.values.device_settings import DeviceSettings

_CANDIDATE_BLOCK_MS, _REFERENCE_BLOCK_MS = 4.0, 2.0
_LEARN_S = 1.5
_PATIENCE_S = 0.15
_TAIL_RUNS = 5
"""Fewest runs of a block for a percentile above the median: 60 in 12 blocks."""


class RemoteMeter:
    """Measures as `LatencyMeter` does, in blocks between blocks of the reference net, on another machine.

    cache, time_limit_s, blocks: as of `LatencyMeter`. `facts` is asked for when it is needed first.
    The training of this machine pauses only if the agent runs on it.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        settings: DeviceSettings,
        cache: Path | None = None,
        time_limit_s: float = 4.0,
        blocks: int = 12,
    ) -> None:
        self.connection, self.settings = connection, settings
        self._time_limit_s, self._blocks = time_limit_s, blocks
        self._folder = cache or cache_folder() / "latency"

    @property
    def facts(self) -> Facts:
        """Processor and runtime of the device; RequestError if the settings have more threads than it has cores."""
        facts = self.connection.facts
        if self.settings.threads > facts.cores:
            raise RequestError(
                f"threads <= {facts.cores} must hold, the cores of the device, but got threads={self.settings.threads}"
            )
        return facts

    @property
    def fingerprint(self) -> str:
        """Hash of the host, the processor and the runtime there, and of the settings."""
        return self.facts.fingerprint(self.settings)

    @property
    def file(self) -> Path:
        """File of the latency cache."""
        return self._folder / f"{self.fingerprint}.json"

    def measure(
        self, model: Path, *, sizes: Sizes = NO_SIZES, key: str | None = None, patient: bool = False
    ) -> GatedLatency:
        """Measure a file; see `LatencyMeter.measure`. The mean of several sizes is measured in place of each."""
        means = {name: size if isinstance(size, int) else round(fmean(size)) for name, size in sizes.items()}
        if key is not None and means:
            key = f"{key} {' '.join(f'{name}={size}' for name, size in sorted(means.items()))}"
        kept = self._cache.find(key) if key is not None else None
        if kept is not None:
            return kept
        content = read_content(model)
        inputs = _inputs(content, self.settings.batch, means, model)

        def task(link: Link) -> GatedLatency:
            return self._measure(link, content, inputs, key=key, patient=patient)

        return self.connection.do(task)

    def with_cache(self, cache: Path) -> RemoteMeter:
        """Return the same meter with another cache."""
        return RemoteMeter(
            self.connection, settings=self.settings, cache=cache, time_limit_s=self._time_limit_s, blocks=self._blocks
        )

    @property
    def _cache(self) -> LatencyCache:
        return LatencyCache(self.file, boot=self.facts.boot, reference=REFERENCE_NAME)

    def _measure(self, link: Link, content: bytes, inputs: Arrays, *, key: str | None, patient: bool) -> GatedLatency:
        net = reference_net()
        link.give("reference", net, _inputs(net, 1, {}, "the reference net"))
        link.give("candidate", content, inputs)
        with self._quiet() as alone:
            level = self._cache.level() or self._learned(link)
            recorded = link.record(
                Recording(
                    threads=self.settings.threads,
                    providers=self.settings.providers,
                    block_ms=_CANDIDATE_BLOCK_MS,
                    reference_block_ms=_REFERENCE_BLOCK_MS,
                    fewest=1 if self.settings.percentile in ("median", "mean") else _TAIL_RUNS,
                    blocks=self._blocks,
                    fast_ms=level.fast_ms,
                    gate=GATE,
                    patience_s=self._time_limit_s if patient else _PATIENCE_S,
                    time_limit_s=self._time_limit_s,
                )
            )
        level = after_measurement(level, recorded, now=time.time())
        settled = settle(recorded, level, blocks=self._blocks, percentile=self.settings.percentile)
        latency = settled if alone else replace(settled, noisy=True)
        self._cache.keep(level, {key: latency} if key is not None and not latency.noisy else {})
        return latency

    def _quiet(self) -> AbstractContextManager[bool]:
        """Enter the quiet window of this machine if the device is this machine; True if all others paused."""
        if not self.facts.is_here:
            return nullcontext(True)
        return shared_window(self._folder / describe_machine().key).still()

    def _learned(self, link: Link) -> FastLevel:
        seen = link.level(seconds=_LEARN_S, threads=self.settings.threads, reference_block_ms=_REFERENCE_BLOCK_MS)
        return FastLevel(fast_ms=robust_minimum(seen))


def _inputs(content: bytes, count: int, sizes: Mapping[str, int], where: Path | str) -> Arrays:
    """Make the inputs here, so that both machines run the same samples."""
    try:
        session = start_session(content)
    except Exception as error:  # the runtime's exceptions share no narrower root
        rule = "the model must be an ONNX file that onnxruntime loads"
        raise RequestError(f"{rule}, but got {where}: {first_line(error)}") from error
    return random_batch(session, count, sizes, str(where))
