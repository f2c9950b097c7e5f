"""A quiet window: for a moment every process that trains on this machine holds still, and one measures."""

from __future__ import annotations

import fcntl
import os
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from nas_compress.errors import RunError

PATIENCE_S = 5.0
"""How long a measurement waits for the others to hold still. Their batches and exports take less."""

TURN_S = 60.0
"""How long a process waits while others measure. A stopped one must not stop all."""

_LOOK_EVERY_S = 0.002


class QuietWindow:
    """Two lock files that the processes of one machine share; the system lets go of what a dead process held.

    Whoever computes holds the room together with others; whoever measures closes the door, which those in the room see
    at their next pause, waits until they have left, and has the room alone. `folder` is one machine's.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._inside = False

    @cached_property
    def _door(self) -> _Lock:
        return _Lock(self._folder / ".door")

    @cached_property
    def _room(self) -> _Lock:
        return _Lock(self._folder / ".room")

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Compute inside: `pause` now and then, so that others can measure."""
        self._enter()
        try:
            yield
        finally:
            self._leave()

    def pause(self) -> None:
        """Hold still while another process measures, if one wants to; two microseconds where none does."""
        if not self._inside:
            return
        if self._door.took(fcntl.LOCK_SH):
            self._door.release()
        else:
            self._leave()
            self._enter()

    @contextmanager
    def still(self, patience_s: float = PATIENCE_S) -> Iterator[bool]:
        """Measure inside: True where every other process holds still, False where one did not within `patience_s`."""
        inside = self._inside
        self._leave()
        mine = self._door.wait(fcntl.LOCK_EX, TURN_S)
        alone = mine and self._room.wait(fcntl.LOCK_EX, patience_s)
        try:
            yield alone
        finally:
            self._room.release()
            self._door.release()
            if inside:
                self._enter()

    def _enter(self) -> None:
        """Into the room, after those who measure. A door that stays closed for too long is passed by."""
        if self._door.wait(fcntl.LOCK_SH, TURN_S):
            self._door.release()
        self._inside = self._room.wait(fcntl.LOCK_SH, TURN_S)

    def _leave(self) -> None:
        if self._inside:
            self._room.release()
        self._inside = False


class _Lock:
    """An empty file that processes lock, `fcntl.LOCK_SH` together or `fcntl.LOCK_EX` alone."""

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise RunError(f"the latency cache must be writable, but got {error}") from error
        weakref.finalize(self, os.close, self._handle)

    def took(self, kind: int) -> bool:
        """Take the lock if it is free; True where it is held."""
        try:
            fcntl.flock(self._handle, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            raise RunError(f"the latency cache must lie on a disk that knows file locks, but got {error}") from error
        return True

    def wait(self, kind: int, seconds: float) -> bool:
        """Try for so long; True where the lock is held."""
        end = time.monotonic() + seconds
        while not self.took(kind):
            if time.monotonic() >= end:
                return False
            time.sleep(_LOOK_EVERY_S)
        return True

    def release(self) -> None:
        """Let go."""
        fcntl.flock(self._handle, fcntl.LOCK_UN)
