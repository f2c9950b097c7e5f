"""Conditions of the latencies of a target device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from nas_compress.errors import RequestError, require_known
from nas_compress.values.family_settings import whole_number

CPU_PROVIDER = "CPUExecutionProvider"

PERCENTILES: Mapping[str, float | None] = {"median": 50.0, "mean": None, "p90": 90.0, "p95": 95.0}
"""Statistics over the runs of a file by name, in percent; None is their mean."""

MEMORY_METRICS = ("peak_memory_bytes", "flash_bytes", "ram_bytes")
"""Metrics of memory, computed only for studies that name them."""

ENERGY = "energy_mj"
"""Metric of the energy of one sample, measured only for studies that name it, on their own device."""

P95 = "latency_p95_ms"
"""Metric of the 95th percentile of the latency over samples."""

ALIASES = {"p50": "median"}


@dataclass(frozen=True, kw_only=True)
class DeviceSettings:
    """Conditions of latencies on a device.

    threads: number of threads of a run, 1 by default.
    batch: number of samples of a run, 1 by default.
    percentile: statistic over the runs of a file, one of PERCENTILES or `p50`, `median` by default.
    providers: execution providers of onnxruntime, the preferred one first; the CPU by default.
    counts_samples: `samples_per_s` is a figure too; always True for a batch of several samples.
    memory: metrics of MEMORY_METRICS that are figures too.
    energy: `energy_mj` is a figure too.
    p95: P95 is a figure of files without early exits too.

    >>> DeviceSettings(threads=4, percentile="p95").conditions
    'batch of 1, 4 threads, p95'
    >>> DeviceSettings(batch=8).figures(2.0)
    {'latency_ms': 2.0, 'samples_per_s': 4000.0}
    """

    threads: int = 1
    batch: int = 1
    percentile: str = "median"
    providers: tuple[str, ...] = (CPU_PROVIDER,)
    counts_samples: bool = False
    memory: tuple[str, ...] = ()
    energy: bool = False
    p95: bool = False

    def __post_init__(self) -> None:
        for name in ("threads", "batch"):
            object.__setattr__(self, name, whole_number(name, getattr(self, name)))
        object.__setattr__(self, "percentile", ALIASES.get(self.percentile, self.percentile))
        require_known("percentile", self.percentile, PERCENTILES)
        object.__setattr__(self, "providers", tuple(self.providers))
        if not self.providers or len(set(self.providers)) < len(self.providers):
            raise RequestError(f"providers must be one or more different names, but got {list(self.providers)}")
        object.__setattr__(self, "counts_samples", self.counts_samples or self.batch > 1)

    @property
    def are_default(self) -> bool:
        """True if latencies are those of one sample and one thread on the CPU, by their median."""
        return replace(self, counts_samples=False, memory=(), energy=False, p95=False) == DeviceSettings()

    @property
    def conditions(self) -> str:
        """The settings in words, for axes, tables and captions; empty for the default ones."""
        if self.are_default:
            return ""
        words = [f"batch of {self.batch}"]
        if self.threads != 1:
            words.append(f"{self.threads} threads")
        if self.percentile != "median":
            words.append(self.percentile)
        if self.providers != (CPU_PROVIDER,):
            words.append(" and ".join(name.removesuffix("ExecutionProvider") for name in self.providers))
        return ", ".join(words)

    def figures(self, latency_ms: float) -> dict[str, float]:
        """The metrics of a latency: itself, and the samples per second if they are counted."""
        timed = {"latency_ms": latency_ms}
        return timed | {"samples_per_s": 1000 * self.batch / latency_ms} if self.counts_samples else timed

    def to_dict(self) -> dict[str, Any]:
        """The conditions as plain values by name."""
        return {
            "threads": self.threads,
            "batch": self.batch,
            "percentile": self.percentile,
            "providers": list(self.providers),
        }


DEFAULT_SETTINGS = DeviceSettings()
"""One sample, one thread, the median of the runs, on the CPU."""
