"""Quiet window: training processes of one machine pause while one of them measures."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from nas_compress.errors import RunError
from nas_compress.files import FileLock

PATIENCE_S = 5.0
"""Seconds that a measurement waits for other processes to pause. Their batches and exports take less."""

PAUSE_EVERY_S = 0.005
"""Least seconds between two checks of the door: a check takes 12 microseconds, a training step maybe 1 ms."""

TURN_S = 60.0
"""Seconds that a process waits while others measure, so that a stopped process cannot block all."""


class QuietWindow:
    """Two lock files shared by the processes of one machine; the system releases the locks of a dead process.

    Training processes share the `room` lock. A measuring process takes the `door` lock exclusively, which makes the
    others release `room` at their next `pause()`, and then takes `room` exclusively. folder: of one machine.
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
        """Compute inside, with frequent calls of `pause`, so that others can measure."""
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
        """Measure inside. Yield True if all other processes paused within `patience_s`."""
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
        """Take the room after current measurements. A door closed for over TURN_S is ignored."""
        if self._door.wait(TURN_S, shared=True):
            self._door.release()
        self._inside = self._room.wait(TURN_S, shared=True)

    def _leave(self) -> None:
        if self._inside:
            self._room.release()
        self._inside = False


class _Lock(FileLock):
    """Lock in the latency cache. Its errors name the cache."""

    def __init__(self, path: Path) -> None:
        try:
            super().__init__(path)
        except OSError as error:
            raise RunError(f"Cannot write the latency cache: {error}") from error

    def take(self, *, shared: bool = False) -> bool:
        """Take the lock if it is free; return False if not."""
        try:
            return super().take(shared=shared)
        except OSError as error:
            raise RunError(f"Cannot lock a file in the latency cache: {error}. Use a disk with file locks.") from error
