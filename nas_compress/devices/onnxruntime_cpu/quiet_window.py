"""A quiet window: for a moment every process that trains on this machine holds still, and one measures."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from nas_compress.errors import RunError
from nas_compress.files import FileLock

PATIENCE_S = 5.0
"""How long a measurement waits for the others to hold still. Their batches and exports take less."""

PAUSE_EVERY_S = 0.005
"""Least time between two looks at the door, each 12 microseconds long: a training step may take 1 ms."""

TURN_S = 60.0
"""How long a process waits while others measure. A stopped one must not stop all."""


class QuietWindow:
    """Two lock files that the processes of one machine share; the system lets go of what a dead process held.

    Whoever computes holds the room together with others; whoever measures closes the door, which those in the room see
    at their next pause, waits until they have left, and has the room alone. `folder` is one machine's.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._inside = False
        self._looked_at = -PAUSE_EVERY_S

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
        """Wait while another process measures."""
        now = time.monotonic()
        if not self._inside or now - self._looked_at < PAUSE_EVERY_S:
            return
        self._looked_at = now
        if self._door.take(shared=True):
            self._door.release()
        else:
            self._leave()
            self._enter()

    @contextmanager
    def still(self, patience_s: float = PATIENCE_S) -> Iterator[bool]:
        """Measure inside: True where every other process holds still, False where one did not within `patience_s`."""
        inside = self._inside
        self._leave()
        mine = self._door.wait(TURN_S)
        alone = mine and self._room.wait(patience_s)
        try:
            yield alone
        finally:
            self._room.release()
            self._door.release()
            if inside:
                self._enter()

    def _enter(self) -> None:
        """Into the room, after those who measure. A door that stays closed for too long is passed by."""
        if self._door.wait(TURN_S, shared=True):
            self._door.release()
        self._inside = self._room.wait(TURN_S, shared=True)

    def _leave(self) -> None:
        if self._inside:
            self._room.release()
        self._inside = False


class _Lock(FileLock):
    """A lock in the latency cache, with errors that name the cache."""

    def __init__(self, path: Path) -> None:
        try:
            super().__init__(path)
        except OSError as error:
            raise RunError(f"the latency cache must be writable, but got {error}") from error

    def take(self, *, shared: bool = False) -> bool:
        """Take the lock if it is free; False if it is not."""
        try:
            return super().take(shared=shared)
        except OSError as error:
            raise RunError(f"the latency cache must be on a disk with file locks, but got {error}") from error
