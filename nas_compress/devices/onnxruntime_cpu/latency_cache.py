"""Cache of latencies per machine, and of its fast level until the next boot."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from math import inf
from pathlib import Path
from typing import Any

from nas_compress.devices.onnxruntime_cpu.latency_from_blocks import GATE, FastLevel, GatedLatency
from nas_compress.errors import DamagedFileError, printable
from nas_compress.files import read_sealed_json, write_sealed_json

_log = logging.getLogger(__name__)
_warned: set[Path] = set()

LONGEST_MS = 3_600_000.0
"""Upper limit of a plausible latency: an hour."""


class LatencyCache:
    """One JSON file with a checksum, read again before each lookup and each write, so that processes share entries.

    path: its stem is the machine's key, which the file repeats. Two writes at the same instant may lose an entry, never
    the file. A damaged file counts as empty, with a warning; so does a file of another machine or reference net. If the
    file cannot be written, entries live as long as this object, also with a warning.
    """

    def __init__(self, path: Path, *, boot: str, reference: str) -> None:
        self._path, self._boot, self._reference = path, boot, reference
        self._unsaved: dict[str, Any] | None = None

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
        """Add entries and set the level, if they changed."""
        content = self._read()
        before = dict(content, latencies=dict(content["latencies"]))
        content["level"] = {"boot": self._boot, **asdict(level)}
        content["latencies"].update({key: asdict(latency) for key, latency in latencies.items()})
        if content == before:
            return
        try:
            write_sealed_json(self._path, content)
        except OSError as error:
            self._unsaved = content
            self._warn(
                f"Cannot write the latency cache {self._path}: {error.strerror}. Latencies are not kept. "
                "Set NAS_COMPRESS_CACHE to another folder."
            )

    def _read(self) -> dict[str, Any]:
        if self._unsaved is not None:
            return dict(self._unsaved, latencies=dict(self._unsaved["latencies"]))
        content: dict[str, Any] = {}
        try:
            content = read_sealed_json(self._path)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            self._warn(
                f"Cannot read the latency cache {self._path}: {error.strerror}. Latencies are measured again. "
                "Set NAS_COMPRESS_CACHE to another folder."
            )
        except DamagedFileError as error:
            self._warn(f"{error}. Latencies are measured again.")
        own = {"machine": self._path.stem, "reference": self._reference}
        if {name: content.get(name) for name in own} != own:
            content = {}
        latencies = content.get("latencies")
        return {
            **own,
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
            } if 0 < fast_ms < LONGEST_MS and misses >= 0 and 0 <= missed_at < inf:
                return FastLevel(fast_ms=fast_ms, misses=misses, missed_at=missed_at)
        return None

    def _warn(self, text: str) -> None:
        warn_once(self._path.parent, text)


def warn_once(folder: Path, text: str) -> None:
    """Log one warning for each latency cache in this process. folder: of the cache."""
    if folder not in _warned:
        _log.warning("%s", printable(text))
    _warned.add(folder)


def _latency(entry: object) -> GatedLatency | None:
    """Return a stored latency; None if a field is missing or implausible."""
    match entry:
        case {
            "latency_ms": float(latency_ms),
            "spread": float(spread),
            "blocks": int(blocks),
            "noisy": bool(noisy),
            "reference_ms": float(reference_ms),
            **others,
        } if 0 < latency_ms < LONGEST_MS and 0 <= spread < inf and blocks >= 1 and 0 < reference_ms < LONGEST_MS:
            energy_mj = others.get("energy_mj")
            return GatedLatency(
                latency_ms=latency_ms,
                spread=spread,
                blocks=blocks,
                noisy=noisy,
                reference_ms=reference_ms,
                energy_mj=energy_mj if isinstance(energy_mj, float) and 0 < energy_mj < inf else None,
            )
    return None
