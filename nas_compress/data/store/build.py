"""Make a store: read every sample once, by this process and by others if it takes long; continue after a stop."""

from __future__ import annotations

import atexit
import hashlib
import math
import os
import queue
import shutil
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import asdict, replace
from functools import cache
from multiprocessing import current_process
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_compress.callbacks import Notice, Progress
from nas_compress.data.store.block import Shape, read_block, shape_of, write_block
from nas_compress.data.store.byte_values import exact_bytes, stored_bytes
from nas_compress.data.store.layout import (
    Stored,
    array_bytes,
    array_from,
    digest_of_block,
    open_store,
    samples_file,
    seal,
)
from nas_compress.data.store.reader_process import ReaderProcess
from nas_compress.data.store.source import Reader, Source
from nas_compress.errors import DamagedFileError, NotBytesError, RequestError, RunError
from nas_compress.files import (
    FileLock,
    make_folder,
    read_sealed_bytes,
    read_sealed_json,
    writable_cache_folder,
    write_sealed_bytes,
    write_sealed_json,
)

ALONE_S = 3.0
"""Seconds of reading in this process before others help."""

WORTH_S = 5.0
"""Expected seconds of further reading from which other processes are started."""

MOST_PROCESSES = 16
"""Largest number of processes that read."""

PROBED = 8
"""Samples that are read to find floats in steps of 1/255 if the first one is black and white."""

SPARE = 100_000_000
"""Bytes of the disk that a store leaves free; at most as many as it has itself."""

STAGE = "data read"
"""Name of the stage for the progress bar."""


def stores_folder(notice: Notice) -> Path:
    """Return the folder of all stores in the cache; any of them may be deleted.

    Without a writable cache it is a folder that this process removes at its end.
    """
    try:
        return writable_cache_folder() / "data" / "stores"
    except RunError as error:
        notice(f"{error} The data are read for this command only.")
        return _folder_of_process()


@cache
def _folder_of_process() -> Path:
    folder = tempfile.mkdtemp(prefix="nas_compress_data_")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def stored_or_read(
    source: Source, reader: Reader, *, key: str, name: str, where: str, progress: Progress, notice: Notice
) -> Stored:
    """Return the samples of a store, which is made if it is missing or damaged.

    reader: of this process. key: name of the store, another one for other contents. name, where: of the split, for
    error texts. Processes that need the same store wait for the first one.
    RequestError if a sample cannot be stored, RunError if the disk is full or a process that reads has ended.
    """
    folder = stores_folder(notice) / key
    make_folder(folder.parent)
    with suppress(DamagedFileError):  # removed below: without the lock it may be a new one already
        found = open_store(folder)
        if found is not None:
            return found
    lock = FileLock(folder.with_name(f"{key}.lock"))
    try:
        if not lock.take():
            notice(f"another process reads {name}; waiting for it")
            lock.wait(math.inf)
        found = _opened(folder, notice)
        if found is None:
            _make(folder, source, reader, name=name, where=where, progress=progress)
            found = open_store(folder)
    finally:
        lock.release()
    if found is None:
        raise RunError(f"{folder} was removed while this process used it. Run the same command again.")
    return found


def _opened(folder: Path, notice: Notice) -> Stored | None:
    try:
        return open_store(folder)
    except DamagedFileError as error:
        notice(f"{error}. The data are read again.")
        shutil.rmtree(folder, ignore_errors=True)
        return None


def _make(folder: Path, source: Source, reader: Reader, *, name: str, where: str, progress: Progress) -> None:
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    first = reader.read(0)
    shape = shape_of(reader, first, as_bytes=_are_bytes(reader, first[0]), name=name, where=where)
    try:
        try:
            digests, targets = _Build(unfinished, shape, source, reader, progress).run()
        except NotBytesError:
            shape = replace(shape, as_bytes=False)
            digests, targets = _Build(unfinished, shape, source, reader, progress).run()
        seal(unfinished, shape, digests, targets)
        shutil.rmtree(unfinished / "blocks", ignore_errors=True)
        unfinished.replace(folder)
    except RequestError:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    except OSError as error:
        raise RunError(
            f"Cannot write the data to {unfinished}: {error.strerror or error}. "
            "Set NAS_COMPRESS_CACHE to another folder."
        ) from error


def _are_bytes(reader: Reader, first: NDArray[Any]) -> bool:
    """Return True for pictures of floats in steps of 1/255. Rows of a table keep their numbers."""
    if first.ndim < 2 or exact_bytes(first) is None:
        return False
    if stored_bytes(first) is not None:
        return True
    count = len(reader)
    others = np.linspace(0, count - 1, min(PROBED, count)).astype(int).tolist()[1:]
    return any(stored_bytes(reader.read(index)[0]) is not None for index in others)


class _Build:
    """One attempt to fill the folder of a store; blocks of an earlier attempt are kept if they are intact."""

    def __init__(self, folder: Path, shape: Shape, source: Source, reader: Reader, progress: Progress) -> None:
        self._folder, self._shape = folder, shape
        self._source, self._reader, self._progress = source, reader, progress
        self._path = samples_file(folder)
        self._digests: dict[int, str] = {}
        self._targets: dict[int, NDArray[Any]] = {}

    def run(self) -> tuple[list[str], NDArray[Any]]:
        """Read all blocks; return their digests and all targets."""
        self._begin()
        missing = [block for block in range(self._shape.blocks) if block not in self._digests]
        left = self._alone(missing)
        if left:
            self._together(left)
        with self._path.open("r+b") as file:
            os.fsync(file.fileno())
        order = range(self._shape.blocks)
        return [self._digests[block] for block in order], np.concatenate([self._targets[block] for block in order])

    def _begin(self) -> None:
        """Take over intact blocks of a stopped attempt, or start with an empty file."""
        description, size = self._folder / "unfinished.json", self._shape.count * self._shape.row_bytes
        wanted = {name: list(each) if isinstance(each, tuple) else each for name, each in asdict(self._shape).items()}
        del wanted["name"], wanted["where"]  # words of messages, which differ from command to command
        try:
            if read_sealed_json(description) == wanted and self._path.stat().st_size == size:
                for path in (self._folder / "blocks").iterdir():
                    self._take_over(path)
                self._show()
                return
        except (OSError, DamagedFileError):
            pass
        shutil.rmtree(self._folder, ignore_errors=True)
        make_folder(self._folder / "blocks")
        free = shutil.disk_usage(self._folder).free
        if free < size + min(SPARE, size):
            raise RunError(
                f"The data need {size / 1e6:,.1f} MB in {self._folder.parent}, but {free / 1e6:,.1f} MB are free. "
                "Set NAS_COMPRESS_CACHE to another folder."
            )
        with self._path.open("wb") as file:
            file.truncate(size)
        write_sealed_json(description, wanted)

    def _take_over(self, path: Path) -> None:
        try:
            content = read_sealed_bytes(path)
            digest, block = content[:64].decode(), int(path.name)
            if block < self._shape.blocks and digest == digest_of_block(self._path, self._shape, block):
                self._digests[block], self._targets[block] = digest, array_from(content[64:])
        except (OSError, ValueError, DamagedFileError):
            return

    def _alone(self, blocks: list[int]) -> list[int]:
        """Read blocks in this process; return the rest, if others would save time."""
        started = time.monotonic()
        for done, block in enumerate(blocks):
            spent = time.monotonic() - started
            if done and spent >= ALONE_S and spent / done * (len(blocks) - done) >= WORTH_S and _may_start_processes():
                return blocks[done:]
            samples, targets = read_block(self._reader, self._shape, block)
            write_block(self._path, self._shape, block, samples)
            self._finish(block, hashlib.sha256(samples.tobytes()).hexdigest(), targets)
        return []

    def _together(self, blocks: list[int]) -> None:
        """Read blocks in several processes; each writes its own part of the file."""
        waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
        for block in blocks:
            waiting.put(block)
        answers: queue.SimpleQueue[tuple[int, str, NDArray[Any]] | BaseException] = queue.SimpleQueue()
        count = min(MOST_PROCESSES, os.cpu_count() or 1, len(blocks))
        processes = [ReaderProcess(self._source, self._shape, self._path) for _ in range(count)]
        threads = [threading.Thread(target=_serve, args=(each, waiting, answers), daemon=True) for each in processes]
        try:
            for thread in threads:
                thread.start()
            for _ in blocks:
                answer = answers.get()
                if isinstance(answer, BaseException):
                    raise answer
                self._finish(*answer)
        finally:
            for process in processes:
                process.close()

    def _finish(self, block: int, digest: str, targets: NDArray[Any]) -> None:
        write_sealed_bytes(self._folder / "blocks" / str(block), digest.encode() + array_bytes(targets))
        self._digests[block], self._targets[block] = digest, targets
        self._show()

    def _show(self) -> None:
        done = sum(len(self._shape.span(block)) for block in self._digests)
        self._progress(f"{STAGE}: {self._shape.name}", done, self._shape.count)


def _serve(
    process: ReaderProcess,
    waiting: queue.SimpleQueue[int],
    answers: queue.SimpleQueue[tuple[int, str, NDArray[Any]] | BaseException],
) -> None:
    """Give blocks to a process until none is left."""
    try:
        while True:
            block = waiting.get_nowait()
            digest, targets = process.read(block)
            answers.put((block, digest, targets))
    except queue.Empty:
        return
    except BaseException as error:
        answers.put(error)


def _may_start_processes() -> bool:
    return (os.cpu_count() or 1) > 1 and not current_process().daemon
