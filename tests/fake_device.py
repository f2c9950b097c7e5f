"""A device without hardware: its latency follows from the file's size, its kernels compute 8 channels at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from nas_compress.devices.protocol import NO_SIZES, Device, Latency
from nas_compress.errors import FloatKernelError
from nas_compress.values.device_settings import DEFAULT_SETTINGS, DeviceSettings

BYTES_PER_MS = 1e6


@dataclass(kw_only=True, eq=False)
class FakeDevice:
    """Counts what is asked of it. integers: whether it has integer kernels."""

    integers: bool = True
    settings: DeviceSettings = DEFAULT_SETTINGS
    keys: set[str] = field(default_factory=set)
    checked: int = 0
    paused: int = 0
    inside: int = 0

    @property
    def name(self) -> str:
        return "fake"

    @property
    def fingerprint(self) -> str:
        return "f" * 16 if self.settings.are_default else sha256(repr(self.settings).encode()).hexdigest()[:16]

    @property
    def summary(self) -> str:
        return ", ".join(filter(None, ("a device without hardware", self.settings.conditions)))

    def describe(self) -> dict[str, Any]:
        described = {"device": self.name, "key": self.fingerprint, "cpu": "none"}
        return described | ({"conditions": self.settings.conditions} if self.settings.conditions else {})

    def channel_step(self, *, activation_bits: int) -> int:
        return 8

    def check(self, path: Path, *, activation_bits: int) -> None:
        self.checked += 1
        if activation_bits < 32 and not self.integers:
            raise FloatKernelError(f"{path.name} needs integer kernels")

    def latency(
        self, path: Path, *, sizes: Mapping[str, int] = NO_SIZES, key: str | None = None, patient: bool = False
    ) -> Latency:
        self.keys.add(key or "")
        one = path.stat().st_size / BYTES_PER_MS
        return Latency(latency_ms=one * self.settings.batch / self.settings.threads, spread=0.0, noisy=False)

    @contextmanager
    def provisional(self) -> Iterator[Device]:
        yield FakeDevice(integers=self.integers, settings=self.settings)

    @contextmanager
    def busy(self) -> Iterator[None]:
        self.inside += 1
        yield
        self.inside -= 1

    def pause(self) -> None:
        assert self.inside, "pauses belong into a busy block"
        self.paused += 1
