"""Quiet window: training processes of one machine pause while one of them measures."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from nas_compress.devices.onnxruntime_cpu.latency_cache import warn_once
from nas_compress.errors import RunError
from nas_compress.files import FileLock

PATIENCE_S = 5.0
"""Seconds that a measurement waits for other processes to pause. Their batches and exports take less."""

PAUSE_EVERY_S = 0.005
"""Least seconds between two checks of the door: a check takes 12 microseconds, a training step maybe 1 ms."""

TURN_S = 60.0
"""Seconds that a process waits while others measure, so that a stopped process cannot block all."""


_windows = threading.local()


def shared_window(folder: Path) -> QuietWindow:
    """Return the window of this thread for a folder.

    Devices of one thread share it: a busy block of one of them makes way for the measurement of another.
    """
    known: weakref.WeakValueDictionary[Path, QuietWindow] | None = getattr(_windows, "known", None)
    if known is None:
        known = _windows.known = weakref.WeakValueDictionary()
    window = known.get(folder)
    if window is None:
        window = known[folder] = QuietWindow(folder)
    return window


class QuietWindow:
    """Two lock files shared by the processes of one machine; the system releases the locks of a dead process.

    Training processes share the `room` lock. A measuring process takes the `door` lock exclusively, which makes the
    others release `room` at their next `pause()`, and then takes `room` exclusively. folder: of one machine.

    If the files cannot be created, nothing is locked, with a warning. RunError if the disk has no file locks.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._inside = False
        self._looked_at = -PAUSE_EVERY_S

    @cached_property
    def _locks(self) -> tuple[FileLock, FileLock] | None:
        """The locks `door` and `room`."""
        try:
            return FileLock(self._folder / ".door"), FileLock(self._folder / ".room")
        except OSError as error:
            warn_once(
                self._folder.parent,
                f"Cannot write the latency cache {self._folder}: {error.strerror}. Latencies are not kept and count as "
                "noisy, because other processes may compute meanwhile. Set NAS_COMPRESS_CACHE to another folder.",
            )
            return None

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Compute inside, with frequent calls of `pause`, so that others can measure."""
        self._enter()
        try:
            yield
        finally:
            self._leave()

    def pause(self) -> None:
        """Wait while another process measures."""
        now = time.monotonic()
        if not self._inside or now - self._looked_at < PAUSE_EVERY_S or self._locks is None:
            return
        self._looked_at = now
        door, _ = self._locks
        with _known_errors():
            if door.take(shared=True):
                door.release()
                return
        self._leave()
        self._enter()

    @contextmanager
    def still(self, patience_s: float = PATIENCE_S) -> Iterator[bool]:
        """Measure inside. Yield True if all other processes paused within `patience_s`."""
        if self._locks is None:
            yield False
            return
        inside, (door, room) = self._inside, self._locks
        self._leave()
        with _known_errors():
            alone = door.wait(TURN_S) and room.wait(patience_s)
        try:
            yield alone
        finally:
            room.release()
            door.release()
            if inside:
                self._enter()

    def _enter(self) -> None:
        """Take the room after current measurements. A door closed for over TURN_S is ignored."""
        if self._locks is None:
            return
        door, room = self._locks
        with _known_errors():
            if door.wait(TURN_S, shared=True):
                door.release()
            self._inside = room.wait(TURN_S, shared=True)

    def _leave(self) -> None:
        if self._locks is not None and self._inside:
            self._locks[1].release()
        self._inside = False


@contextmanager
def _known_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(
            f"Cannot lock a file in the latency cache: {error}. Set NAS_COMPRESS_CACHE to a disk with file locks."
        ) from error
