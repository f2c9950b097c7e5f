"""Protocol of a target device, which checks and times exported files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from nas_compress.values.device_settings import ENERGY, P95, DeviceSettings

EQUAL_WITHIN = 0.02
"""Latencies that differ by at most this fraction count as equal. Steady figures repeat within it on every device."""


Sizes = Mapping[str, int | tuple[int, ...]]
"""Sizes of free dimensions other than the batch, by name. Several sizes: the mean over one run of each."""

NO_SIZES: Mapping[str, int] = {}
"""Sizes of a file whose only free dimension is the batch."""


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Milliseconds of one run under the settings of the device; of one sample by default.

    spread: interquartile range of the repeats over their median. noisy: the device was not in a state in which figures
    repeat within `EQUAL_WITHIN`; measure again. long_ms: 95th percentile over samples of several lengths or exits.
    energy_mj: of one sample, if the settings ask for it.
    """

    latency_ms: float
    spread: float
    noisy: bool
    long_ms: float | None = None
    energy_mj: float | None = None

    def figures(self, settings: DeviceSettings) -> dict[str, float]:
        """The metrics of the latency under the settings of a device."""
        long = {} if self.long_ms is None else {P95: self.long_ms}
        energy = {} if self.energy_mj is None else {ENERGY: self.energy_mj}
        return settings.figures(self.latency_ms) | long | energy


class Device(Protocol):
    """A kind of hardware and runtime. Each process makes one with `devices.table.open_device`."""

    @property
    def name(self) -> str:
        """Name in the table of devices and in study files."""

    @property
    def fingerprint(self) -> str:
        """A string that changes if latencies measured before are no longer comparable."""

    @property
    def summary(self) -> str:
        """One line about the hardware, the runtime and the conditions of latencies."""

    @property
    def settings(self) -> DeviceSettings:
        """Conditions of latencies. The fingerprint depends on them."""

    def describe(self) -> dict[str, Any]:
        """Return plain values for `machine` in run.json.

        `key` is the fingerprint, `cpu` the processor's name, `conditions` those of settings other than the default.
        """

    def channel_step(self, *, activation_bits: int) -> int:
        """Return the number of channels computed at once by the kernels; widths are multiples of it."""

    def check(self, path: Path, *, activation_bits: int) -> None:
        """Raise FloatKernelError if the device would compute an integer file in float."""

    def latency(self, path: Path, *, sizes: Sizes = NO_SIZES, key: str | None = None, patient: bool = False) -> Latency:
        """Measure a file under the device's settings, in its own exclusive window.

        sizes: see `Sizes`. key: of the file's graph; a figure without noise is
        measured once per key and sizes. patient: wait longer for a steady state. RequestError if the file cannot be
        timed.
        """

    def provisional(self) -> AbstractContextManager[Device]:
        """Return the same device with the known figures; new figures are forgotten at the end."""

    def busy(self) -> AbstractContextManager[None]:
        """Enter a block that computes next to other processes and pauses for their measurements."""

    def pause(self) -> None:
        """Wait while another process measures. It is called between batches, so it must be cheap."""


Answers = Callable[[Mapping[str, Any]], dict[str, Any]]
"""Arrays of the outputs of one batch of inputs, by name."""


@runtime_checkable
class Answering(Protocol):
    """A device of another runtime than onnxruntime on this machine, whose answers may differ."""

    def answers(self, path: Path) -> Answers:
        """Open a file; RequestError if the runtime cannot. So does the returned function for a batch."""


Sample = Mapping[str, Any]
"""Arrays of the inputs of one sample by name, each with a first dimension of 1."""


@dataclass(frozen=True, kw_only=True)
class StreamLatency:
    """Milliseconds of a file on each of several real samples, one after the other.

    each_ms: of each sample. noisy: see `Latency`.
    """

    each_ms: tuple[float, ...]
    noisy: bool


@runtime_checkable
class Streaming(Protocol):
    """A device that times a file on given samples, for files whose latency depends on the sample."""

    def stream(self, path: Path, samples: Sequence[Sample], *, patient: bool = False) -> StreamLatency | None:
        """Measure a file on the samples, or on fewer at equal distances if a run is slow; see `Device.latency`.

        None if the device cannot: its latency of the mean sample is then a forecast.
        """


Described = Mapping[str, Any]
"""The values of `Device.describe`, also those of an earlier run."""
