"""Latencies of files on the named devices of a study, which may be out of reach for a while."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from nas_compress.callbacks import Notice
from nas_compress.devices.protocol import Device, Sample
from nas_compress.errors import DeviceLostError, RequestError, TrialError
from nas_compress.measurement.file_latency import measure_latency
from nas_compress.values.metrics.named_device_rows import figures_on
from nas_compress.values.outcome import Measured
from nas_compress.values.text.measured_lengths import SampleSizes

_log = logging.getLogger(__name__)

NO_SAMPLE_SIZES: SampleSizes = {}

REST_S = 60.0
"""Seconds without a question to a lost device: each one may wait for a connection."""


class NamedDevices:
    """The named devices of a study, opened by this process.

    devices: by name. notice: gets a line when a device is lost, and one when it answers again. rest_s: see REST_S.
    """

    def __init__(
        self, devices: Mapping[str, Device] | None = None, *, notice: Notice = _log.warning, rest_s: float = REST_S
    ) -> None:
        self.devices = dict(devices or {})
        self._notice, self._rest_s = notice, rest_s
        self._lost: dict[str, float] = {}

    def ask_again(self) -> None:
        """Ask lost devices at the next measurement, without a rest."""
        self._lost = dict.fromkeys(self._lost, -self._rest_s)

    @contextmanager
    def provisional(self) -> Iterator[NamedDevices]:
        """Yield the same devices with the known figures; new figures are forgotten at the end."""
        with ExitStack() as stack:
            opened = {name: stack.enter_context(device.provisional()) for name, device in self.devices.items()}
            yield NamedDevices(opened, notice=self._notice, rest_s=self._rest_s)

    def timed(
        self,
        measured: Measured,
        path: Path,
        *,
        sizes: SampleSizes = NO_SAMPLE_SIZES,
        samples: Sequence[Sample] = (),
        patient: bool = False,
        only: Iterable[str] | None = None,
    ) -> Measured:
        """Return the figures of a file with those on the devices; figures on a lost device stay as they were.

        sizes: of free dimensions by name. samples: real ones for files with exits, see `stream_of`. patient: see
        `Device.latency`. only: names of the devices to ask, all by default. TrialError if a device cannot run the file.
        """
        asked = [name for name in (self.devices if only is None else only) if self._may_be_asked(name)]
        rates = () if measured.exits is None else measured.exits.rates
        for name in asked:
            device = self.devices[name]
            try:
                latency = measure_latency(path, device, sizes=sizes, patient=patient, rates=rates, samples=samples)
            except DeviceLostError as error:
                self._lose(name, str(error))
                continue
            except RequestError as error:
                raise TrialError(f"device {name}: {error}") from error
            if self._lost.pop(name, None) is not None:
                self._notice(f"device {name} answers again")
            figures = figures_on(name, latency.figures(device.settings))
            measured = measured.timed(figures, spread=latency.spread, noisy=latency.noisy, device=name)
        return measured

    def described(self, before: Mapping[str, Mapping[str, object]]) -> dict[str, dict[str, object]]:
        """Return the description of each device; of a lost one that known before, if there is one.

        before: descriptions in run.json. RequestError if a device does not have the settings of the study.
        """
        found: dict[str, dict[str, object]] = {}
        for name, device in self.devices.items():
            try:
                if self._may_be_asked(name):
                    found[name] = device.describe()
                    continue
            except DeviceLostError as error:
                self._lose(name, str(error))
            except RequestError as error:
                raise RequestError(f"device {name}: {error}") from error
            if name in before:
                found[name] = dict(before[name])
        return found

    def _may_be_asked(self, name: str) -> bool:
        return name in self.devices and time.monotonic() - self._lost.get(name, -self._rest_s) >= self._rest_s

    def _lose(self, name: str, reason: str) -> None:
        if name not in self._lost:
            self._notice(f"device {name}: latency not measured ({reason}); it is asked again later")
        self._lost[name] = time.monotonic()
