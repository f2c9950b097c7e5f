"""Files written in one step, locks on files, and the cache folder."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import platformdirs
import portalocker

TEMPORARY = ".part-"
"""Prefix of unfinished files and folders. After the death of their process they may be removed."""

_RETRY_S = 0.002
"""Time between two attempts to take a lock."""


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file in the folder of `path`, then rename it to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f"{TEMPORARY}{path.name}.", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        temporary.chmod(0o644)
        _to_disk(temporary)  # before the rename, so that a power cut cannot leave an empty file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def tidy(folder: Path) -> None:
    """Remove unfinished files of dead processes."""
    for path in folder.rglob(f"{TEMPORARY}*"):
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file in one step."""
    write_atomically(path, lambda temporary: _fill(temporary, text))


def write_json(path: Path, values: Any) -> None:
    """Write plain values as indented JSON in one step."""
    write_text(path, json.dumps(values, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Read plain values from JSON."""
    return json.loads(path.read_text(encoding="utf-8"))


class FileLock:
    """Lock on a file, which any number of holders share or one holder has alone.

    Two locks on one file exclude each other within a process too. The system releases the locks of a dead process.
    OSError if the file cannot be created.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        self._held = False
        self.close = weakref.finalize(self, os.close, self._handle)

    def take(self, *, shared: bool = False) -> bool:
        """Take the lock if it is free; False if it is not. OSError if the disk has no file locks."""
        kind = portalocker.LockFlags.SHARED if shared else portalocker.LockFlags.EXCLUSIVE
        try:
            portalocker.lock(self._handle, kind | portalocker.LockFlags.NON_BLOCKING)
        except portalocker.AlreadyLocked:
            return False
        except portalocker.LockException as error:
            raise OSError(error.strerror or str(error)) from error
        self._held = True
        return True

    def wait(self, seconds: float, *, shared: bool = False) -> bool:
        """Try to take the lock for this time; False if it stayed taken."""
        end = time.monotonic() + seconds
        while not self.take(shared=shared):
            if time.monotonic() >= end:
                return False
            time.sleep(_RETRY_S)
        return True

    def release(self) -> None:
        """Release the lock, if it is held."""
        if self._held:
            portalocker.unlock(self._handle)
        self._held = False


def cache_folder() -> Path:
    """Folder of teachers, latencies and downloads: NAS_COMPRESS_CACHE, else the user's cache folder."""
    chosen = os.environ.get("NAS_COMPRESS_CACHE")
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("nas_compress"))


def _to_disk(path: Path) -> None:
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def _fill(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
