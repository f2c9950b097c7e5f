"""The user's command as a process whose input and output are limited in size and time."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence

from nas_compress.devices.remote.why_lost import why_ended
from nas_compress.errors import LostDeviceError, RequestError

CHUNK = 2**16
WAITING_CHUNKS = 64
"""Chunks read ahead; then the command waits."""

KEPT_ERRORS = 2**13
"""Bytes kept of the end of standard error."""

_END_S = 1.0


class PipedCommand:
    """A running command. Standard error is read for `why_ended` only, and never shown.

    command: program and arguments, without a shell. device: its name in messages. RequestError if there is no such
    program. The process ends with this object.
    """

    def __init__(self, command: Sequence[str], *, device: str) -> None:
        self._device = device
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
                f"the command of device {device} must start with a program of this machine, "
                f"but it cannot be started: {_why_not_started(error)}"
            ) from None
        self._buffer = bytearray()
        self._chunks: queue.Queue[bytes] = queue.Queue(WAITING_CHUNKS)
        self._errors = bytearray()
        closed = threading.Event()
        _start(_read_ahead, self._process, self._chunks, closed)
        self._listener = _start(_keep_end, self._process, self._errors)
        self.close = weakref.finalize(self, _end, self._process, closed)

    def write(self, content: bytes, *, seconds: float) -> None:
        """Write all bytes; LostDeviceError if the command ends, or does not read them in time."""
        failed: list[OSError] = []
        thread = _start(_write_all, self._process, content, failed)
        thread.join(seconds)
        if thread.is_alive():
            raise self._lost(f"it did not take a request within {seconds:.0f} s")
        if failed:
            raise self._ended()

    def read(self, count: int, *, end: float) -> bytes:
        """Return this number of bytes; LostDeviceError if the command ends before, or at the time `end`."""
        while len(self._buffer) < count:
            self._more(end)
        content = bytes(self._buffer[:count])
        del self._buffer[:count]
        return content

    def skip_to(self, mark: bytes, *, most: int, end: float) -> None:
        """Skip what is printed before a mark, such as a greeting; LostDeviceError without one in `most` bytes."""
        while (place := self._buffer.find(mark)) < 0:
            if len(self._buffer) > most:
                raise self._lost("its command prints something else than the agent's answers")
            self._more(end)
        del self._buffer[:place]

    def _more(self, end: float) -> None:
        try:
            chunk = self._chunks.get(timeout=max(0.0, end - time.monotonic()))
        except queue.Empty:
            raise self._lost("it did not answer in time") from None
        if not chunk:
            self._chunks.put(b"")  # for the next call
            raise self._ended()
        self._buffer += chunk

    def _ended(self) -> LostDeviceError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_S)
        self._listener.join(_END_S)
        return self._lost(why_ended(self._process.poll(), self._errors.decode(errors="replace")))

    def _lost(self, reason: str) -> LostDeviceError:
        return LostDeviceError(self._device, reason)


def _why_not_started(error: Exception) -> str:
    return (error.strerror or "no reason is known").lower() if isinstance(error, OSError) else "it holds a null byte"


def _start(function: Callable[..., None], *arguments: object) -> threading.Thread:
    thread = threading.Thread(target=function, args=arguments, daemon=True)
    thread.start()
    return thread


def _write_all(process: subprocess.Popen[bytes], content: bytes, failed: list[OSError]) -> None:
    assert process.stdin is not None
    rest = memoryview(content)
    try:
        while rest:
            rest = rest[os.write(process.stdin.fileno(), rest[:CHUNK]) :]
    except (OSError, ValueError) as error:  # ValueError: closed here
        failed.append(error if isinstance(error, OSError) else OSError())


def _read_ahead(process: subprocess.Popen[bytes], chunks: queue.Queue[bytes], closed: threading.Event) -> None:
    """Read standard output to its end, which is an empty chunk."""
    assert process.stdout is not None
    chunk = b"-"
    while chunk:
        try:
            chunk = process.stdout.read(CHUNK) or b""
        except (OSError, ValueError):
            chunk = b""
        while not closed.is_set():
            with contextlib.suppress(queue.Full):
                chunks.put(chunk, timeout=0.1)
                break
        if closed.is_set():
            return


def _keep_end(process: subprocess.Popen[bytes], kept: bytearray) -> None:
    assert process.stderr is not None
    with contextlib.suppress(OSError, ValueError):
        while chunk := process.stderr.read(CHUNK):
            kept += chunk
            del kept[:-KEPT_ERRORS]


def _end(process: subprocess.Popen[bytes], closed: threading.Event) -> None:
    """End the command: first by the end of its input, then by a signal to all its processes."""
    closed.set()
    with contextlib.suppress(OSError):
        if process.stdin is not None:
            process.stdin.close()
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        _kill(process)
        process.wait()
    for pipe in (process.stdout, process.stderr):
        with contextlib.suppress(OSError, ValueError):
            if pipe is not None:
                pipe.close()


def _kill(process: subprocess.Popen[bytes]) -> None:
    if sys.platform == "win32":
        process.kill()
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
