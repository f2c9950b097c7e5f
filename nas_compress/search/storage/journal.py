"""Optuna's journal in the run folder: a file with one operation in each line, read with limits."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend

from nas_compress.errors import DamagedFileError, describe
from nas_compress.files import FileLock, irregular_kind

LONGEST_LINE = 1_000_000
"""Longest line of a journal, in bytes. The lines of a search have a few hundred to a few thousand."""

LARGEST_JOURNAL = 128_000_000
"""Largest journal that is opened, in bytes: about 20,000 trials. The memory for it is a few times as large."""

MALFORMED = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    AssertionError,
    OverflowError,
    RecursionError,
)
"""Errors of reading values of a wrong type or form, by Optuna or by this package."""


@dataclass(frozen=True, kw_only=True)
class Damage:
    """The first line of a journal that cannot be used. line: its number, from 1."""

    line: int
    reason: str


class Journal(BaseJournalBackend):
    """Backend of Optuna's `JournalStorage` on a file.

    Optuna's own backend reads lines of any length, and waits 30 s for the lock of a dead process.

    end: number of lines to read, all by default.
    DamagedFileError is raised if the path is no plain file, such as a symbolic link.
    """

    def __init__(self, path: Path, *, end: int | None = None) -> None:
        require_plain_file(path)
        self._path, self._end = path, end
        self._starts = [0]
        """Places of the lines read so far, and of the next one."""
        self._first = b""
        self._largest = LARGEST_JOURNAL
        self.line = 0
        """Number of the line that was read last, from 1."""
        if not path.exists():
            path.touch()

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Yield the operations from this number on. A last line without an end is left for the next call.

        ValueError is raised for a line that is no JSON object or over a limit.
        """
        with self._path.open("rb") as file:
            if os.fstat(file.fileno()).st_size < self._starts[-1]:
                raise ValueError("the journal became shorter")
            self.line = log_number_from
            file.seek(self._starts[self.line])
            while self.line != self._end:
                text = file.readline(LONGEST_LINE + 1)
                if not text.endswith(b"\n") and len(text) <= LONGEST_LINE:
                    break
                self.line += 1
                yield self._read(text)
        self._largest = 2**63  # a journal that grows during a run is read to its end

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append operations, after the unfinished line of a dead process is cut off.

        Optuna cannot read a journal with lines after an unfinished one.
        """
        lock = FileLock(self._path.absolute().with_name(".journal.lock"))
        lock.wait(math.inf)
        try:
            drop_torn_line(self._path)
            with self._path.open("ab") as file:
                file.write(journal_text(logs).encode())
                file.flush()
                os.fsync(file.fileno())
        finally:
            lock.close()

    def _read(self, text: bytes) -> dict[str, Any]:
        """Return the operation in the line `self.line`, and keep the place of the next one."""
        if len(text) > LONGEST_LINE:
            raise ValueError(f"a line must have at most {LONGEST_LINE} bytes")
        if self.line == 1:
            self._first = text
        elif text == self._first:  # it has the identifier of its process
            raise ValueError("it repeats the first line")
        if self.line == len(self._starts):
            self._starts.append(self._starts[-1] + len(text))
        if self._starts[self.line] > self._largest:
            raise ValueError(f"a journal must have at most {self._largest} bytes")
        operation = json.loads(text)
        if not isinstance(operation, dict):
            raise ValueError("a line must be a JSON object")
        return operation


def read_journal(path: Path) -> tuple[JournalStorage, Damage | None]:
    """Open a journal up to its first line that cannot be used, and return that line too."""
    journal = Journal(path)
    try:
        return JournalStorage(journal), None
    except MALFORMED as error:
        damage = Damage(line=journal.line, reason=describe(error))
    return JournalStorage(Journal(path, end=damage.line - 1)), damage


def open_journal(path: Path) -> JournalStorage:
    """Open a journal; DamagedFileError if a line of it cannot be used."""
    storage, damage = read_journal(path)
    if damage is not None:
        raise DamagedFileError(
            f"{path} is damaged at line {damage.line} ({damage.reason}). nas-compress run repairs it by the records of "
            "the run."
        )
    return storage


class Operations(BaseJournalBackend):
    """Backend of Optuna's `JournalStorage` in memory, for a journal that is written at once."""

    def __init__(self) -> None:
        self.logs: list[dict[str, Any]] = []

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Yield the operations from this number on."""
        yield from self.logs[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Keep the operations."""
        self.logs += logs


def journal_text(logs: Sequence[dict[str, Any]]) -> str:
    """Return operations as lines of a journal."""
    return "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)


def count_lines(path: Path) -> int:
    """Return the number of lines of a file, which may be large, including an unfinished last line."""
    with path.open("rb") as file:
        count, last = 0, b"\n"
        while part := file.read(1 << 20):
            count, last = count + part.count(b"\n"), part[-1:]
        return count + (last != b"\n")


def require_plain_file(path: Path) -> None:
    """Raise DamagedFileError if the path is there and no plain file. A link could lead out of the run folder."""
    kind = irregular_kind(path)
    if kind is not None:
        raise DamagedFileError(
            f"{path} is damaged: it is {kind}. Restore it from a copy, or remove it and run the study again: the "
            "journal is made anew from the records."
        )


def drop_torn_line(journal: Path) -> None:
    """Cut an unfinished last line, left by a full disk, a power cut or a killed process."""
    if not journal.is_file() or not journal.stat().st_size:
        return
    with journal.open("rb+") as file:
        end = _end_of_last_line(file)
        if end < file.seek(0, os.SEEK_END):
            file.truncate(end)


def _end_of_last_line(file: BinaryIO) -> int:
    """Return the place after the last line break, 0 without one."""
    place = file.seek(0, os.SEEK_END)
    while place > 0:
        start = max(0, place - (1 << 16))
        file.seek(start)
        found = file.read(place - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        place = start
    return 0
