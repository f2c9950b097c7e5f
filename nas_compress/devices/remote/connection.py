"""The link to a device, made again after it was lost."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from nas_compress.devices.remote.facts import Facts
from nas_compress.devices.remote.link import DEFAULT_LIMITS, Limits, Link
from nas_compress.errors import DeviceError, LostDeviceError, TrialError

_log = logging.getLogger(__name__)

WAITS_S = (1.0, 5.0, 20.0, 60.0, 120.0, 240.0)
"""Seconds before each new try to reach a lost device: seven minutes in all."""

MOST_ENDS = 3
"""Number of times that a new agent may end during one task. Then the model is the reason."""

Result = TypeVar("Result")


class Connection:
    """Tasks on a device. Each process has one per device.

    command: program and arguments. device: name in messages. waits_s: before each new try.
    The first try has no second one, because a new command may be wrong. RequestError if it cannot be started,
    LostDeviceError if the device does not answer, DeviceError if it answers wrongly.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        device: str,
        limits: Limits = DEFAULT_LIMITS,
        waits_s: Sequence[float] = WAITS_S,
    ) -> None:
        self._command, self._device, self._limits, self._waits_s = tuple(command), device, limits, tuple(waits_s)
        self._link: Link | None = Link(self._command, device=device, limits=limits)
        self.facts: Facts = self._link.facts

    def do(self, task: Callable[[Link], Result]) -> Result:
        """Perform a task, again from its start if the device is lost.

        LostDeviceError if the device stays lost, TrialError if new agents end during this task.
        """
        ends, waits = 0, list(self._waits_s)
        while True:
            old = self._link is not None
            try:
                return task(self._link or self._again())
            except LostDeviceError as error:
                ends += not old and self._link is not None
                self.close()
                if ends >= MOST_ENDS:
                    raise TrialError(
                        f"the agent of device {self._device} ended {ends} times while it ran the model: {error.reason}"
                    ) from error
                if old:
                    continue  # an agent without requests ends by itself
                if not waits:
                    raise
                self._wait(error, waits)
            except BaseException:
                self.close()  # its answer would be taken for that of the next request
                raise

    def close(self) -> None:
        """End the agent. The next task starts a new one."""
        if self._link is not None:
            self._link.close()
        self._link = None

    def _again(self) -> Link:
        link = Link(self._command, device=self._device, limits=self._limits)
        if not link.facts.is_same_machine(self.facts):
            link.close()
            raise DeviceError(
                f"Device {self._device} is now another machine or has another onnxruntime. "
                "Run the same command to continue."
            )
        self._link, self.facts = link, link.facts
        return link

    def _wait(self, error: LostDeviceError, waits: list[float]) -> None:
        if len(waits) == len(self._waits_s):
            _log.warning(
                "device %s is lost: %s; asking again for %.0f s", self._device, error.reason, sum(self._waits_s)
            )
        time.sleep(waits.pop(0))
