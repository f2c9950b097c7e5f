"""The link to a device, started at its first task, and again after its command has ended."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from typing import TypeVar

from nas_compress.devices.remote.facts import Facts
from nas_compress.devices.remote.link import DEFAULT_LIMITS, Limits, Link
from nas_compress.errors import DeviceLostError, RequestError

Result = TypeVar("Result")


class Connection:
    """Tasks on a device. Each process has one per device, and nothing is started before the first task.

    command: program and arguments. RequestError if this machine has no such program.
    """

    def __init__(self, command: Sequence[str], *, limits: Limits = DEFAULT_LIMITS) -> None:
        self._command, self._limits = tuple(command), limits
        if not command or shutil.which(command[0]) is None:
            # without its words, which may name a user or a host
            raise RequestError(
                "the command of a device must start with a program of this machine that may be executed, "
                f"but its first of {len(command)} words is none"
            )
        self._link: Link | None = None
        self._facts: Facts | None = None

    @property
    def facts(self) -> Facts:
        """Processor and runtime of the device; DeviceLostError if it was never reached, and is not now."""
        return self._started().facts if self._facts is None else self._facts

    def do(self, task: Callable[[Link], Result]) -> Result:
        """Perform a task. DeviceLostError if the device does not answer, or wrongly; the next task starts it again."""
        try:
            return task(self._started())
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
            if self._facts is not None and not link.facts.is_same_machine(self._facts):
                link.close()
                raise DeviceLostError("another machine or another onnxruntime answers in place of the device")
            self._link, self._facts = link, link.facts
        return self._link
