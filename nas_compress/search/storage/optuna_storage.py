"""The Optuna study of a run: opened or made, and refused where it belongs to another study file."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from optuna.exceptions import ExperimentalWarning, StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from safetensors import SafetensorError
from sqlalchemy.exc import IntegrityError, ProgrammingError

from nas_compress.config.schema import StudySpec
from nas_compress.devices.table import DEFAULT_DEVICE
from nas_compress.errors import RequestError, RunError, lacks_memory
from nas_compress.runs.folder import RunFolder

IDENTITY = "nas_compress"
"""The study's user attribute that holds what defines it."""

TRIES = 5
"""Hosts that make the tables of an empty database at the same time get in each other's way at most so often."""

SQLITE_WAIT_S = 60.0
"""Seconds that a process waits while others write to an SQLite file. The driver's default of 5 s is too short."""

POSTGRES_WAITS = {
    "connect_timeout": 30,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
"""A server that does not answer is given up after these seconds, the last in milliseconds; the URL may say others."""


class JournalLock(JournalFileOpenLock):
    """Lock for writing to a journal. The operating system releases it if its process dies.

    Optuna's own locks would make the other processes wait for 30 s in that case. The end of an interrupted write is
    removed, because Optuna could not read a journal in which other lines follow it.
    """

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._lock = FileLock(journal.absolute().with_name(".journal.lock"), poll_interval=0.002)

    def acquire(self) -> bool:
        """Wait for the lock."""
        self._lock.acquire()
        drop_torn_line(self._journal)
        return True

    def release(self) -> None:
        """Release the lock."""
        self._lock.release()


@contextmanager
def opened_storage(url: str | None, journal: Path) -> Iterator[BaseStorage]:
    """Optuna's storage, whose connections are closed at the end: a server admits only so many."""
    storage = open_storage(url, journal)
    try:
        yield storage
    finally:
        if isinstance(storage, RDBStorage):
            storage.remove_session()
            storage.engine.dispose()


def open_storage(url: str | None, journal: Path) -> BaseStorage:
    """Optuna's storage: a journal file in the run folder, or a database by its URL."""
    optuna.logging.set_verbosity(logging.WARNING)
    if url is None:
        journal.parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(str(journal.absolute()), lock_obj=JournalLock(journal)))
    address = re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", url)
    try:
        return _open_database(address)
    except ImportError as error:
        raise RequestError(
            f"--storage {shown_url(url)} needs a driver that is not installed ({error}); "
            "for PostgreSQL: pip install 'nas-compress[postgres]'"
        ) from error
    except RuntimeError as error:
        raise RequestError(
            f"--storage must have tables of this version of Optuna, but {shown_url(url)} has others: "
            f"{_first_line(error)}"
        ) from error
    except Exception as error:
        raise RunError(f"--storage must be reachable, but {shown_url(url)} is not: {_first_line(error)}") from error


def _open_database(address: str) -> RDBStorage:
    """A database with one connection that is kept and one more for a moment, each tested before it is used."""
    options: dict[str, Any] = {"pool_pre_ping": True, "pool_size": 1, "max_overflow": 1}
    if address.startswith("sqlite"):
        options = {"connect_args": {"timeout": SQLITE_WAIT_S}}
    if address.startswith("postgresql+psycopg:"):
        options["connect_args"] = {name: value for name, value in POSTGRES_WAITS.items() if f"{name}=" not in address}
    for _ in range(TRIES - 1):
        with suppress(IntegrityError, ProgrammingError):
            return RDBStorage(address, engine_kwargs=options)
    return RDBStorage(address, engine_kwargs=options)


@contextmanager
def known_errors() -> Iterator[None]:
    """Turn what a database, the writer of weights or a full memory raises in a run into a RunError of one line."""
    try:
        yield
    except SafetensorError as error:
        raise RunError(
            f"the teacher's files must be writable, but got {_first_line(error)}; the same command goes on from here"
        ) from error
    except UpdateFinishedTrialError as error:
        raise RunError(
            "a run must show every minute that it lives, but another one gave up its trial; "
            "the same command goes on from here"
        ) from error
    except StorageInternalError as error:
        raise RunError(f"the storage must be reachable and writable, but got {_first_line(error)}") from error
    except Exception as error:  # outside a trial, whose own would only fail it
        if not lacks_memory(error):
            raise
        raise RunError(
            f"there must be memory for the run, but got {_first_line(error)}; the same command goes on from here"
        ) from error


def shown_url(url: str | None) -> str | None:
    """A storage's URL without its password, wherever that stands."""
    if url is None:
        return None
    # one that holds "/" or "@" is hidden too: rather too much than a part of it
    return re.sub(r"([?&](?:ssl)?password=)[^&]*", r"\1***", re.sub(r"(//[^:/]*):.*@", r"\1:***@", url))


def require_same_storage(folder: RunFolder, url: str | None) -> None:
    """Raise RequestError where the run was started with another storage: its trials are there."""
    before = folder.about()["storage"]
    if before != shown_url(url):
        kept = "the journal in the run folder (no --storage)" if before is None else f"--storage {before}"
        raise RequestError(f"a run goes on with the storage that it was started with, {kept}, but got {shown_url(url)}")


def open_study(storage: BaseStorage, spec: StudySpec, identity: dict[str, Any]) -> optuna.Study:
    """Load the study of that name, or make it. A study that another study file made is refused, naming the keys."""
    directions = list(spec.directions)
    try:
        study = optuna.load_study(study_name=spec.name, storage=storage)
    except KeyError:
        study = optuna.create_study(
            study_name=spec.name, storage=storage, directions=directions, load_if_exists=True
        )  # another host may have made it since
    known = study.user_attrs.get(IDENTITY)
    if known is None:
        if study.trials or [direction.name.lower() for direction in study.directions] != directions:
            raise RequestError(
                f"the storage holds a study {spec.name!r} that nas-compress did not make; choose another name"
            )
        study.set_user_attr(IDENTITY, identity)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names(list(spec.value_names))
        return study
    different = differing_keys(known, identity)
    if different:
        raise RequestError(
            f"a study goes on with the study file that started it, but these keys differ: {', '.join(different)}; "
            "restore them, or use another name or --out"
        )
    return study


def study_identity(spec: StudySpec, *, space_hash: str, data_fingerprint: str) -> dict[str, Any]:
    """What makes a study this study: its file but for the total of trials and the device, its space and its data."""
    values = spec.model_dump(mode="json", exclude={"trials", "device"})
    if spec.target == DEFAULT_DEVICE:
        del values["target"]  # studies from before the key have no other
    return {**values, "space (its text)": space_hash, "data (its contents)": data_fingerprint}


def differing_keys(known: dict[str, Any], wanted: dict[str, Any], prefix: str = "") -> list[str]:
    """Dotted names of the keys whose values differ, with both values."""
    different = []
    for key in sorted(known.keys() | wanted.keys()):
        before, now = known.get(key), wanted.get(key)
        if isinstance(before, dict) and isinstance(now, dict):
            different += differing_keys(before, now, f"{prefix}{key}.")
        elif before != now:
            different.append(f"{prefix}{key} (was {before!r}, is {now!r})")
    return different


def drop_torn_line(journal: Path) -> None:
    """Cut an unfinished last line, left by a full disk or a power cut: Optuna could never read the journal again."""
    if not journal.is_file() or not journal.stat().st_size:
        return
    with journal.open("rb+") as handle:
        handle.seek(-1, 2)
        if handle.read(1) == b"\n":
            return
        content = journal.read_bytes()
        handle.truncate(content.rfind(b"\n") + 1)


def _first_line(error: BaseException) -> str:
    root = error.__cause__ or error
    return f"{type(root).__name__}: {root}".splitlines()[0]
