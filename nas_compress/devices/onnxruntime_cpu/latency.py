"""Latency of an ONNX file, by default of one sample and one thread, measured in the machine's fast state."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from statistics import median

import onnxruntime

from nas_compress.devices.onnxruntime_cpu.energy import POWERCAP, energy_mj, find_counters
from nas_compress.devices.onnxruntime_cpu.latency_cache import LatencyCache
from nas_compress.devices.onnxruntime_cpu.latency_from_blocks import (
    Block,
    FastLevel,
    GatedLatency,
    accepted,
    after_measurement,
    lowered,
    robust_minimum,
    settle,
)
from nas_compress.devices.onnxruntime_cpu.machine import (
    DEFAULT_NAME,
    boot_name,
    describe_machine,
    settings_key,
    usable_cores,
)
from nas_compress.devices.onnxruntime_cpu.reference_net import REFERENCE_NAME, reference_net
from nas_compress.devices.onnxruntime_cpu.stream import PASSES, TimedStream, settle_stream
from nas_compress.devices.onnxruntime_cpu.timed_session import OpenNet, TimedNet
from nas_compress.devices.onnxruntime_cpu.training_pause import shared_window
from nas_compress.devices.protocol import NO_SIZES, Sample, Sizes, StreamLatency
from nas_compress.errors import RequestError, require_known
from nas_compress.files import cache_folder
from nas_compress.values.device_settings import DEFAULT_SETTINGS, DeviceSettings

_CANDIDATE_BLOCK_MS = 4.0
_REFERENCE_BLOCK_MS = 2.0
_LEARN_S = 1.5
_PATIENCE_S = 0.15


class LatencyMeter:
    """Measures latencies on this machine, comparable between processes. Make one per process.

    cache: folder, `latency` in the cache folder by default. time_limit_s: longest measurement. blocks: number of
    accepted blocks that ends a measurement; a block takes about 4 ms, or one run of a slower net. settings: conditions
    of the latencies. device: name of the device. runtime, open_net: version of a runtime other than onnxruntime, and
    the function that opens a file in it; onnxruntime always runs the reference net. powercap: folder of the energy
    counters. RequestError for more threads than cores, an unknown provider, or energy on a machine that counts none.

    A measurement that is not patient also ends after 0.15 s without an accepted block: slow states last for seconds, so
    a later try does better. The first measurement after a boot takes 1.5 s more to learn the machine's fast level.
    Measurements run in a quiet `window` shared by the meters of one cache folder; a latency measured while other
    processes computed is noisy. Each device and each setting has a cache file and a fast level of its own.
    """

    def __init__(
        self,
        *,
        cache: Path | None = None,
        time_limit_s: float = 4.0,
        blocks: int = 12,
        settings: DeviceSettings = DEFAULT_SETTINGS,
        device: str = DEFAULT_NAME,
        runtime: str = "",
        open_net: OpenNet | None = None,
        powercap: Path = POWERCAP,
    ) -> None:
        if not time_limit_s > 0:
            raise RequestError(f"time_limit_s > 0 must hold, but got time_limit_s={time_limit_s}")
        if not blocks >= 1:
            raise RequestError(f"blocks >= 1 must hold, but got blocks={blocks}")
        _require_runnable(settings)
        self.powercap = powercap
        self._counters = find_counters(settings, powercap) if settings.energy else ()
        self._time_limit_s, self._blocks, self.settings, self.device = time_limit_s, blocks, settings, device
        self.folder = cache or cache_folder() / "latency"
        machine = describe_machine().key  # hosts may share the folder, but not figures or the window
        self.window = shared_window(self.folder / machine)
        self.fingerprint = settings_key(machine, f"{device} {runtime}".strip(), settings)
        self._open_net = open_net
        self.file = self.folder / f"{self.fingerprint}.json"
        self._cache = LatencyCache(self.file, boot=boot_name(), reference=REFERENCE_NAME)

    @cached_property
    def _reference(self) -> TimedNet:
        # with the same threads, because a busy second core slows down only a net of several threads
        return TimedNet(
            reference_net(), block_ms=_REFERENCE_BLOCK_MS, settings=DeviceSettings(threads=self.settings.threads)
        )

    def measure(
        self, model: Path, *, sizes: Sizes = NO_SIZES, key: str | None = None, patient: bool = False
    ) -> GatedLatency:
        """Measure a file under the settings of the meter.

        sizes: see `devices.protocol.Sizes`. key: a latency without noise is cached under it and
        `sizes`, and later returned without opening the file. Raises RequestError if the file cannot be timed.
        """
        if key is not None and sizes:
            key = f"{key} {' '.join(f'{name}={size}' for name, size in sorted(sizes.items()))}"
        kept = self._kept(key)
        if kept is not None:
            return kept
        candidate = TimedNet(
            model, block_ms=_CANDIDATE_BLOCK_MS, sizes=sizes, settings=self.settings, open_net=self._open_net
        )
        with self.window.still() as alone:
            kept = self._kept(key)  # another process may have measured it while this one waited
            return self._measure(candidate, key=key, patient=patient, alone=alone) if kept is None else kept

    def stream(self, model: Path, samples: Sequence[Sample], *, patient: bool = False) -> StreamLatency | None:
        """Measure a file on real samples, one by one and in order, between runs of the reference net.

        None under another runtime than onnxruntime.

        Each latency is the median over PASSES passes. Fewer samples at equal distances are timed if a pass would take
        longer than PASS_S. patient: see `Device.latency`. RequestError if the file cannot be timed.
        """
        if self._open_net is not None:
            return None
        net = TimedStream(model, samples, block_ms=_CANDIDATE_BLOCK_MS, settings=self.settings)
        with self.window.still() as alone:
            level = self._cache.level() or self._learned()
            recorded = self._record_stream(net, level, self._time_limit_s if patient else _PATIENCE_S)
            together = [block for blocks in recorded for block in blocks]
            level = after_measurement(level, together, now=time.time())
            self._cache.keep(level, {})
        return settle_stream(recorded, level, alone=alone)

    def _record_stream(self, net: TimedStream, level: FastLevel, patience_s: float) -> list[list[Block]]:
        """Return the blocks of each part of a stream: one whole pass, then more while time and patience last."""
        started = time.perf_counter()
        recorded: list[list[Block]] = [[] for _ in range(net.parts)]
        before, count, hopeful = self._reference.block_ms(), 0, started + patience_s
        while True:
            rare = [part for part, blocks in enumerate(recorded) if len(accepted(blocks, level)) < PASSES]
            if not rare:
                return recorded
            for part in rare:
                runs, after = net.runs_ms(part), self._reference.block_ms()
                block = Block(before_ms=before, value_ms=median(runs), after_ms=after, runs_ms=tuple(runs))
                recorded[part].append(block)
                before, now = after, time.perf_counter()
                level = lowered(level, [block for blocks in recorded for block in blocks[-1:]])
                fast = sum(len(accepted(blocks, level)) for blocks in recorded)
                hopeful, count = (now + patience_s if fast > count else hopeful), fast
                if now >= min(hopeful, started + self._time_limit_s) and all(recorded):
                    return recorded

    def _kept(self, key: str | None) -> GatedLatency | None:
        kept = self._cache.find(key) if key is not None else None
        if kept is None or not self._counters:
            return kept if kept is None else replace(kept, energy_mj=None)
        return None if kept.energy_mj is None else kept

    def _measure(self, candidate: TimedNet, *, key: str | None, patient: bool, alone: bool) -> GatedLatency:
        level = self._cache.level() or self._learned()
        recorded = self._record(candidate, level, self._time_limit_s if patient else _PATIENCE_S)
        level = after_measurement(level, recorded, now=time.time())
        settled = settle(recorded, level, blocks=self._blocks, percentile=self.settings.percentile)
        if self._counters:
            settled = replace(settled, energy_mj=energy_mj(self._counters, candidate.run) / self.settings.batch)
        latency = settled if alone else replace(settled, noisy=True)
        self._cache.keep(level, {key: latency} if key is not None and not latency.noisy else {})
        return latency

    def _learned(self) -> FastLevel:
        end = time.perf_counter() + _LEARN_S
        seen = [self._reference.block_ms()]
        while time.perf_counter() < end:
            seen.append(self._reference.block_ms())
        return FastLevel(fast_ms=robust_minimum(seen))

    def _record(self, candidate: TimedNet, level: FastLevel, patience_s: float) -> list[Block]:
        """Alternate reference and candidate until enough blocks are accepted, or time or patience is over."""
        started = time.perf_counter()
        recorded: list[Block] = []
        before, count, hopeful = self._reference.block_ms(), 0, started + patience_s
        while count < self._blocks:
            runs, after = candidate.runs_ms(), self._reference.block_ms()
            recorded.append(Block(before_ms=before, value_ms=median(runs), after_ms=after, runs_ms=tuple(runs)))
            level, before = lowered(level, recorded), after
            fast, now = len(accepted(recorded, level)), time.perf_counter()
            if fast > count:
                hopeful = now + patience_s
            count = fast
            if now >= min(hopeful, started + self._time_limit_s):
                break
        return recorded


def _require_runnable(settings: DeviceSettings) -> None:
    """Raise RequestError for more threads than this process has cores, or for a provider that is not installed."""
    cores = usable_cores()
    if settings.threads > cores:
        raise RequestError(
            f"threads <= {cores} must hold, the cores of this machine, but got threads={settings.threads}"
        )
    for name in settings.providers:
        require_known("a provider", name, onnxruntime.get_available_providers())
