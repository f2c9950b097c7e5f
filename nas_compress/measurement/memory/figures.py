"""Metrics of a file's memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nas_compress.measurement.memory.graph_memory import portable_memory, runtime_memory
from nas_compress.values.device_settings import DeviceSettings

PORTABLE = frozenset({"flash_bytes", "ram_bytes"})


def memory_figures(path: Path, settings: DeviceSettings, *, sizes: Mapping[str, int]) -> dict[str, float]:
    """Return the figures of `settings.memory` of a file; none if the study names none.

    sizes: of free dimensions other than the batch, by name. RequestError if the file does not run, or has a loop.
    """
    found: dict[str, float] = {}
    if "peak_memory_bytes" in settings.memory:
        run = runtime_memory(path, batch=settings.batch, sizes=sizes)
        found["peak_memory_bytes"] = run.weights + run.activations
    if PORTABLE.intersection(settings.memory):
        portable = portable_memory(path, sizes=sizes)
        both = {"flash_bytes": portable.weights, "ram_bytes": portable.activations}
        found |= {name: value for name, value in both.items() if name in settings.memory}
    return found
