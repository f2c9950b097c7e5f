"""The user's command as a process whose input and output are limited in size and time."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
import weakref
from collections.abc import Sequence
from typing import IO

from nas_compress.devices.remote.why_lost import why_ended
from nas_compress.errors import DeviceLostError, RequestError

CHUNK = 2**16

MOST_UNREAD = 2**20
"""Bytes of output kept before they are asked for; then the command waits."""

KEPT_ERRORS = 2**13
"""Bytes kept of the end of standard error."""

_END_S = 1.0


class PipedCommand:
    """A running command. Its standard error is read for `why_ended` only, and never shown.

    command: program and arguments, without a shell. RequestError if there is no such program. The process ends with
    this object. Times `end` are those of `time.monotonic`.
    """

    def __init__(self, command: Sequence[str]) -> None:
        try:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,  # Ctrl-C ends this program, which then ends the command
            )
        except (OSError, ValueError) as error:
            # without the command, which may name a user or a host
            raise RequestError(
                "the command of a device must start with a program of this machine, "
                f"but it cannot be started: {_why_not_started(error)}"
            ) from None
        self.close = weakref.finalize(self, _end, self._process, os.getpid())
        stdin, stdout, stderr = self._process.stdin, self._process.stdout, self._process.stderr
        assert stdin is not None and stdout is not None and stderr is not None
        self._stdin, self._stdout, self._stderr = stdin, stdout, stderr
        self._kept: dict[IO[bytes], bytearray] = {stdout: bytearray(), stderr: bytearray()}
        self._open = {stdout, stderr}
        for pipe in (stdin, stdout, stderr):
            os.set_blocking(pipe.fileno(), False)

    @property
    def has_ended(self) -> bool:
        """True after the end of the process."""
        return self._process.poll() is not None

    def write(self, content: bytes, *, end: float) -> None:
        """Write all bytes; DeviceLostError if the command ends, or does not read them until `end`."""
        rest = memoryview(content)
        while rest:
            rest = rest[self._step(end, rest) :]

    def read(self, count: int, *, end: float) -> bytes:
        """Return this number of bytes; DeviceLostError if the command ends before, or at `end`."""
        output = self._kept[self._stdout]
        while len(output) < count:
            self._step(end, most=count)
        content = bytes(output[:count])
        del output[:count]
        return content

    def skip_to(self, mark: bytes, *, most: int, end: float) -> None:
        """Skip what is printed before a mark, such as a greeting; DeviceLostError without one in `most` bytes."""
        output = self._kept[self._stdout]
        while (place := output.find(mark)) < 0:
            if len(output) > most:
                raise DeviceLostError("the command prints something else than the agent's answers")
            self._step(end)
        del output[:place]

    def _step(self, end: float, rest: memoryview | bytes = b"", *, most: int = MOST_UNREAD) -> int:
        """Wait until the command prints or takes something. Return the number of bytes taken from `rest`."""
        if self._stdout not in self._open:
            raise self._ended()
        full = {self._stdout} if len(self._kept[self._stdout]) >= most else set()
        ready = _ready(self._open - full, {self._stdin} if rest else set(), end)
        if not ready:
            raise DeviceLostError("the device did not answer in time")
        for pipe in self._open & ready:
            self._keep(pipe)
        if self._stdin not in ready:
            return 0
        try:
            return os.write(self._stdin.fileno(), rest[:CHUNK])
        except BlockingIOError:
            return 0
        except OSError:  # nothing reads it any more
            raise self._ended() from None

    def _keep(self, pipe: IO[bytes]) -> None:
        chunk = pipe.read(CHUNK)
        if chunk == b"":
            self._open.discard(pipe)
        self._kept[pipe] += chunk or b""
        if pipe is self._stderr:
            del self._kept[pipe][:-KEPT_ERRORS]

    def _ended(self) -> DeviceLostError:
        """Return the error of a command that closed its output or input, with the reason that it printed."""
        end = time.monotonic() + _END_S
        while self._open & {self._stderr} and _ready({self._stderr}, set(), end):
            self._keep(self._stderr)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, end - time.monotonic()))
        reason = why_ended(self._process.poll(), self._kept[self._stderr].decode(errors="replace"))
        return DeviceLostError(f"the device did not answer: {reason}")


def _ready(reading: set[IO[bytes]], writing: set[IO[bytes]], end: float) -> set[IO[bytes]]:
    """Return the pipes that can be read or written; none at the time `end`."""
    left = end - time.monotonic()
    if left <= 0:
        return set()
    with selectors.DefaultSelector() as selector:
        for pipes, event in ((reading, selectors.EVENT_READ), (writing, selectors.EVENT_WRITE)):
            for pipe in pipes:
                selector.register(pipe, event)
        ready = {key.fd for key, _ in selector.select(left)}
    return {pipe for pipe in reading | writing if pipe.fileno() in ready}


def _why_not_started(error: Exception) -> str:
    return (error.strerror or "no reason is known").lower() if isinstance(error, OSError) else "it holds a null byte"


def _end(process: subprocess.Popen[bytes], owner: int) -> None:
    """End the command: first by the end of its input, then by a signal to all its processes."""
    if os.getpid() != owner:  # a fork, which shares the command with the process that started it
        return
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
