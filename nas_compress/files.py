"""Files written in one step, with checksums if they are read again; locks on files; the cache folder."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import secrets
import shutil
import stat
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import platformdirs

from nas_compress.errors import DamagedFileError, RunError
from nas_compress.optional_imports import broken_counts_as_missing

with broken_counts_as_missing("redis"):
    import portalocker

TEMPORARY = ".part-"
"""Prefix of unfinished files and folders. After the death of their process they may be removed."""

DIGEST = "sha256"
"""Key of the checksum in a sealed JSON file."""

JSON_LIMIT = 64_000_000
"""Largest JSON file that is read, in bytes."""

_RETRY_S = 0.002
"""Time between two attempts to take a lock."""


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file in the folder of `path`, then rename it to `path`.

    The temporary file is private. The finished file has the permissions of the umask. A link at `path` is replaced.
    OSError, with the name of `path`, if writing fails or `path` is a device or a pipe.
    """
    require_regular(path)
    make_folder(path.parent)
    temporary = path.with_name(f"{TEMPORARY}{path.name[:40]}.{secrets.token_hex(4)}")
    try:
        mode = _create(temporary)
        write(temporary)
        _to_disk(temporary)  # before the rename, so that a power cut cannot leave an empty file
        temporary.chmod(mode)
        temporary.replace(path)
    except OSError as error:
        if error.filename in (str(temporary), temporary):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def require_regular(path: Path) -> None:
    """Raise OSError if `path` is a device or a pipe. A missing file, a folder and a link to them pass."""
    # A rename would replace /dev/null and its like, which root may do. A reader of a pipe may wait for ever.
    special = path.exists() and not (path.is_file() or path.is_dir())
    if special or os.path.realpath(path.parent) == "/dev":
        raise OSError(errno.EINVAL, "not a regular file", str(path))


def tidy(folder: Path) -> None:
    """Remove unfinished files of dead processes."""
    for path in folder.rglob(f"{TEMPORARY}*"):
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file in one step."""
    write_atomically(path, lambda temporary: _fill(temporary, text))


def append_text(path: Path, text: str) -> None:
    """Append to a text file; OSError if a link, a pipe or a device has its name.

    A link could lead out of a run folder.
    """
    if path.is_symlink():
        raise OSError(errno.EINVAL, "a link instead of a file", str(path))
    require_regular(path)
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes in one step."""
    write_atomically(path, lambda temporary: _fill_bytes(temporary, content))


def json_text(values: Any) -> str:
    """Return plain values as indented JSON, with null for nan and infinite numbers, which JSON lacks.

    >>> json_text(float("nan"))
    'null'
    """
    try:
        return json.dumps(values, indent=2, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(values), indent=2, allow_nan=False)


def write_json(path: Path, values: Any) -> None:
    """Write plain values as indented JSON in one step; see `json_text`."""
    write_text(path, json_text(values) + "\n")


def read_json(path: Path, *, strict: bool = False) -> Any:
    """Read plain values from JSON; ValueError if the file is no JSON, too large or nested too deeply.

    A byte order mark is skipped. strict: refuse repeated keys, nan and inf. OSError for a pipe or a device.
    """
    require_regular(path)
    if path.stat().st_size > JSON_LIMIT:
        raise ValueError(f"a JSON file must have at most {JSON_LIMIT} bytes")
    text = path.read_text(encoding="utf-8-sig")
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse) if strict else json.loads(text)
    except RecursionError as error:
        raise ValueError("JSON must not be nested this deeply") from error


def write_sealed_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write plain values as JSON with their SHA-256 under `sha256`, in one step."""
    read_back = json.loads(json_text(values))  # keys become text and nan becomes null before the checksum
    write_json(path, {**read_back, DIGEST: digest_of_values(read_back)})


def read_sealed_json(path: Path, *, required: bool = True) -> dict[str, Any]:
    """Read the values of `write_sealed_json`, without the checksum.

    required: refuse files without a checksum, which earlier versions wrote.
    DamagedFileError if the file does not match its checksum or is no JSON; OSError if it cannot be read.
    """
    try:
        values = read_json(path)
        if not isinstance(values, dict):
            raise ValueError("it holds no JSON object")
        digest = values.pop(DIGEST, None)
        if digest is None and required:
            raise ValueError("it has no checksum")
        if digest is not None and digest != digest_of_values(values):
            raise ValueError("its content does not match its checksum")
    except ValueError as error:
        raise DamagedFileError(f"{path} is damaged: {error}") from error
    return values


def digest_of_values(values: Mapping[str, Any]) -> str:
    """Return the SHA-256 of plain values, independent of the order of keys; ValueError if they nest too deeply."""
    try:
        text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    except RecursionError as error:
        raise ValueError("JSON must not be nested this deeply") from error
    return hashlib.sha256(text.encode()).hexdigest()


def write_sealed_bytes(path: Path, content: bytes) -> None:
    """Write bytes after a first line with their SHA-256, in one step."""
    write_bytes(path, hashlib.sha256(content).hexdigest().encode() + b"\n" + content)


def read_sealed_bytes(path: Path) -> bytes:
    """Read the bytes of `write_sealed_bytes`.

    DamagedFileError if they do not match their checksum, OSError for a pipe or a device.
    """
    require_regular(path)
    line, _, content = path.read_bytes().partition(b"\n")
    if line.decode(errors="replace") != hashlib.sha256(content).hexdigest():
        raise DamagedFileError(f"{path} is damaged: its content does not match its checksum")
    return content


def digest_of_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def irregular_kind(path: Path) -> str | None:
    """Return `a symbolic link` or `no plain file` for such a path; None for a plain file, or if nothing is there."""
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISREG(kind):
        return None
    return "a symbolic link" if stat.S_ISLNK(kind) else "no plain file"


def make_folder(folder: Path) -> None:
    """Create a folder and its parents; RunError if it lies in a folder in use that was removed."""
    for root, lock in tuple(_IN_USE.items()):
        if folder.is_relative_to(root) and not lock.in_place():
            raise removed_folder(root)
    folder.mkdir(parents=True, exist_ok=True)


@contextmanager
def in_use(root: Path, lock: FileLock) -> Iterator[None]:
    """Let `make_folder` refuse folders below `root` if it was removed during the block.

    lock: on a file below `root`. The folder was removed or replaced if this file is not in place.
    """
    _IN_USE[root] = lock
    try:
        yield
    finally:
        del _IN_USE[root]


def removed_folder(root: Path) -> RunError:
    """Make the error for a folder that was removed while this process used it."""
    return RunError(
        f"{root} was removed or replaced while this process used it. Nothing was written there since; "
        "run the same command to start again."
    )


class FileLock:
    """Lock on a file, which any number of holders share or one holder has alone.

    Two locks on one file exclude each other within a process too. The system releases the locks of a dead process.
    OSError if the file cannot be created.
    """

    def __init__(self, path: Path) -> None:
        make_folder(path.parent)
        self._path = path
        self._handle = _open_for_lock(path)
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

    def in_place(self) -> bool:
        """Return True if the file is still at its path, not removed or replaced."""
        try:
            own, found = os.fstat(self._handle), self._path.stat()
        except OSError:
            return False
        # Some network disks number their files anew, so an equal time of change is enough.
        return os.path.samestat(own, found) or (own.st_size, own.st_mtime_ns) == (found.st_size, found.st_mtime_ns)

    def release(self) -> None:
        """Release the lock, if it is held."""
        if self._held:
            portalocker.unlock(self._handle)
        self._held = False


def cache_folder() -> Path:
    """Folder of teachers, latencies and downloads: NAS_COMPRESS_CACHE, else the user's cache folder."""
    chosen = os.environ.get("NAS_COMPRESS_CACHE")
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("nas_compress"))


def writable_cache_folder() -> Path:
    """Return the cache folder after a trial write; RunError names it and NAS_COMPRESS_CACHE if that fails."""
    folder = cache_folder()
    probe = folder / f"{TEMPORARY}probe.{secrets.token_hex(4)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            _fill_bytes(probe, b"x")
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        raise RunError(
            f"Cannot write the cache folder {folder}: {error.strerror}. Set NAS_COMPRESS_CACHE to another folder."
        ) from error
    return folder


_IN_USE: dict[Path, FileLock] = {}
"""Folders that this process uses, each with its lock."""


def _finite(values: Any) -> Any:
    if isinstance(values, Mapping):
        return {name: _finite(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [_finite(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in values if names.count(name) > 1)
        raise ValueError(f"a key must occur once, but {repeated!r} is repeated")
    return values


def _refuse(constant: str) -> Any:
    raise ValueError(f"a number must be finite, but got {constant}")


def _create(path: Path) -> int:
    """Create an empty private file; return the permissions of the umask, which cannot be read without changing it."""
    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        mode = stat.S_IMODE(os.fstat(handle).st_mode)
    finally:
        os.close(handle)
    path.chmod(0o600)
    return mode


def _open_for_lock(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except PermissionError:  # another user's file, which can be locked too
        return os.open(path, os.O_RDONLY)


def _to_disk(path: Path) -> None:
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def _fill(path: Path, text: str) -> None:
    # A path may hold bytes that are not text.
    path.write_text(text, encoding="utf-8", errors="backslashreplace")


def _fill_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)
