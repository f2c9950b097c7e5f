"""Cache of latencies per machine, and of its fast level until the next boot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nas_compress.devices.onnxruntime_cpu.latency_from_blocks import GATE, FastLevel, GatedLatency
from nas_compress.errors import RunError
from nas_compress.files import read_json, write_json


class LatencyCache:
    """One JSON file, read again before each lookup and each write, so that processes share entries.

    Two writes at the same instant may lose an entry, never the file. An unreadable file, or one of another reference
    net, counts as empty.
    """

    def __init__(self, path: Path, *, boot: str, reference: str) -> None:
        self._path, self._boot, self._reference = path, boot, reference

    def level(self) -> FastLevel | None:
        """Return the fast level learned since the last boot, or None."""
        return self._level(self._read())

    def find(self, key: str) -> GatedLatency | None:
        """Return the latency stored under `key`; None if there is none, or if the machine has since been faster."""
        content = self._read()
        latency, level = _latency(content["latencies"].get(key)), self._level(content)
        if latency and level and latency.reference_ms > GATE * level.fast_ms:
            return None
        return latency

    def keep(self, level: FastLevel, latencies: Mapping[str, GatedLatency]) -> None:
        """Add entries and set the level, if they changed; RunError if writing fails."""
        content = self._read()
        before = dict(content, latencies=dict(content["latencies"]))
        content["level"] = {"boot": self._boot, **asdict(level)}
        content["latencies"].update({key: asdict(latency) for key, latency in latencies.items()})
        if content == before:
            return
        try:
            write_json(self._path, content)
        except OSError as error:
            raise RunError(f"Cannot write the latency cache: {error}") from error

    def _read(self) -> dict[str, Any]:
        try:
            content = read_json(self._path)
        except (OSError, ValueError):  # not there, or not JSON
            content = None
        if not isinstance(content, dict) or content.get("reference") != self._reference:
            content = {}
        latencies = content.get("latencies")
        return {
            "reference": self._reference,
            "level": content.get("level"),
            "latencies": latencies if isinstance(latencies, dict) else {},
        }

    def _level(self, content: dict[str, Any]) -> FastLevel | None:
        match content["level"]:
            case {
                "boot": self._boot,
                "fast_ms": float(fast_ms),
                "misses": int(misses),
                "missed_at": float(missed_at),
            } if fast_ms > 0:
                return FastLevel(fast_ms=fast_ms, misses=misses, missed_at=missed_at)
        return None


def _latency(entry: object) -> GatedLatency | None:
    try:
        return GatedLatency(**entry) if isinstance(entry, dict) else None
    except TypeError:  # another version's fields
        return None
