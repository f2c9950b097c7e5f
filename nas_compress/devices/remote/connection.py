"""The link to a device, made again after it was lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from nas_compress.devices.remote.facts import Facts
from nas_compress.devices.remote.link import DEFAULT_LIMITS, Limits, Link
from nas_compress.errors import DeviceLostError

REST_S = 60.0
"""Seconds after a loss in which the device is not asked, so that a study does not wait for each candidate."""

Result = TypeVar("Result")


class Connection:
    """Tasks on a device. Each process has one per device. facts: processor and runtime of the device.

    command: program and arguments. rest_s: seconds after a loss in which every task is refused at once.
    RequestError if the command cannot be started, DeviceLostError if the device does not answer, or wrongly.
    """

    def __init__(self, command: Sequence[str], *, limits: Limits = DEFAULT_LIMITS, rest_s: float = REST_S) -> None:
        self._command, self._limits, self._rest_s = tuple(command), limits, rest_s
        self._lost = ""
        self._asked_after = 0.0
        self._link: Link | None = Link(self._command, limits=limits)
        self.facts: Facts = self._link.facts

    def do(self, task: Callable[[Link], Result]) -> Result:
        """Perform a task, after a new start of the command if it has ended. DeviceLostError if the device is lost."""
        if self._lost and time.monotonic() < self._asked_after:
            raise DeviceLostError(self._lost)
        try:
            return task(self._started())
        except DeviceLostError as error:
            self.close()
            self._lost, self._asked_after = str(error), time.monotonic() + self._rest_s
            raise
        except BaseException:
            self.close()  # its answer would be taken for that of the next request
            raise

    def close(self) -> None:
        """End the agent. The next task starts a new one."""
        if self._link is not None:
            self._link.close()
        self._link = None

    def _started(self) -> Link:
        if self._link is not None and self._link.has_ended:  # an agent without requests ends by itself
            self.close()
        if self._link is None:
            link = Link(self._command, limits=self._limits)
            if not link.facts.is_same_machine(self.facts):
                link.close()
                raise DeviceLostError("another machine or another onnxruntime answers in place of the device")
            self._link, self.facts = link, link.facts
        return self._link
