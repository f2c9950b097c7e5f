"""Optuna's storage and study of a run. A study of another study file is refused."""

from __future__ import annotations

import logging
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, RDBStorage, get_storage
from sqlalchemy.engine import URL
from sqlalchemy.exc import IntegrityError, ProgrammingError

from nas_compress.callbacks import Notice
from nas_compress.config.device_section import TargetSection
from nas_compress.config.schema import StudySpec
from nas_compress.errors import RequestError, RunError, lacks_memory
from nas_compress.runs.folder import RunFolder
from nas_compress.search.samplers.proposals import Suggesting
from nas_compress.search.storage.attribute_names import IDENTITY
from nas_compress.search.storage.checked_storage import CheckedStorage, TrialRules
from nas_compress.search.storage.journal import MALFORMED, open_journal
from nas_compress.search.storage.urls import database_address, shown_url, without_secrets

TRIES = 5
"""Number of tries to create the tables of an empty database. Other hosts may create them at the same time."""

SQLITE_WAIT_S = 60.0
"""Seconds that a process waits while others write to an SQLite file. The driver's default of 5 s is too short."""

POSTGRES_WAITS = {
    "connect_timeout": 30,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
"""Limits for a server that does not answer, in seconds, the last in milliseconds. The URL may set others."""


@contextmanager
def opened_storage(url: str | None, journal: Path) -> Iterator[BaseStorage]:
    """Open Optuna's storage and close its connections at the end, because a server admits a limited number."""
    storage = open_storage(url, journal)
    try:
        yield storage
    finally:
        if isinstance(storage, RDBStorage):
            storage.remove_session()
            storage.engine.dispose()


def open_storage(url: str | None, journal: Path) -> BaseStorage:
    """Open Optuna's storage: a journal file in the run folder, or a database by its URL."""
    optuna.logging.set_verbosity(logging.WARNING)
    if url is None:
        journal.parent.mkdir(parents=True, exist_ok=True)
        return open_journal(journal)
    address = database_address(url)
    try:
        return _open_database(address)
    except ImportError as error:
        raise RequestError(
            f"--storage {shown_url(url)} needs a driver that is not installed ({without_secrets(str(error), url)}); "
            "for PostgreSQL: pip install 'nas-compress[postgres]'"
        ) from error
    except RuntimeError as error:
        raise RequestError(
            f"--storage must have tables of this version of Optuna, but {shown_url(url)} has others: "
            f"{_first_line(error, url)}"
        ) from error
    except Exception as error:
        raise RunError(f"--storage {shown_url(url)} cannot be reached: {_first_line(error, url)}") from error


def _open_database(address: URL) -> RDBStorage:
    """Open a database with one permanent connection and one temporary one. Each is tested before use."""
    options: dict[str, Any] = {"pool_pre_ping": True, "pool_size": 1, "max_overflow": 1}
    if address.drivername.startswith("sqlite"):
        options = {"connect_args": {"timeout": SQLITE_WAIT_S}}
    if address.drivername == "postgresql+psycopg":
        options["connect_args"] = {name: value for name, value in POSTGRES_WAITS.items() if name not in address.query}
    whole = address.render_as_string(hide_password=False)
    for _ in range(TRIES - 1):
        with suppress(IntegrityError, ProgrammingError):
            return RDBStorage(whole, engine_kwargs=options)
    return RDBStorage(whole, engine_kwargs=options)


@contextmanager
def known_errors(url: str | None = None) -> Iterator[None]:
    """Turn errors of the storage and of memory into a RunError of one line.

    url: of the storage, whose password is left out of the line.
    """
    try:
        yield
    except UpdateFinishedTrialError as error:
        raise RunError(
            "Another run took over this trial, because no heartbeat arrived for 60 s. Run the same command to continue."
        ) from error
    except StorageInternalError as error:
        raise RunError(f"The storage failed: {_first_line(error, url)}. Run the same command to continue.") from error
    except Exception as error:  # outside a trial; inside, it only fails the trial
        if isinstance(error, MALFORMED) and _raised_in_storage(error):
            remedy = "Remove the data, or use another name of the study"
            if url is None:
                remedy = "Run the same command: it repairs study.journal"
            raise RunError(
                f"The storage holds data that Optuna cannot read: {_first_line(error, url)}. {remedy}."
            ) from error
        if not lacks_memory(error):
            raise
        raise RunError(
            f"Out of memory: {_first_line(error)}. Close other programs and run the same command to continue."
        ) from error


def require_same_storage(folder: RunFolder, url: str | None) -> None:
    """Raise RequestError if the run was started with another storage, because its trials are there."""
    before = folder.about()["storage"]
    if before != shown_url(url):
        journal = "the journal in the run folder (no --storage and no NAS_COMPRESS_STORAGE)"
        kept = journal if before is None else f"--storage {before}"
        raise RequestError(f"a run must continue with its first storage, {kept}, but got {shown_url(url)}")


def open_study(
    storage: BaseStorage, spec: StudySpec, identity: dict[str, Any], *, space: Suggesting, say: Notice
) -> optuna.Study:
    """Load or create the study, whose trials are checked when they are read.

    space: the function of the search space. say: gets a line for each finished trial that cannot be used.
    RequestError is raised if the study belongs to another study file or program.
    """
    directions = list(spec.directions)
    try:
        study = optuna.load_study(study_name=spec.name, storage=storage)
    except KeyError:
        study = optuna.create_study(
            study_name=spec.name, storage=storage, directions=directions, load_if_exists=True
        )  # another host may have created it in the meantime
    known = study.user_attrs.get(IDENTITY)
    same_directions = [direction.name.lower() for direction in study.directions] == directions
    if not isinstance(known, dict) and (known is not None or study.trials or not same_directions):
        raise RequestError(f"the storage holds a study {spec.name!r} of another program; choose another name")
    if known is None:
        study.set_user_attr(IDENTITY, identity)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names(list(spec.value_names))
    different = [] if known is None else differing_keys(known, identity)
    if different:
        raise RequestError(
            f"a study must continue with its first study file, but these keys differ: {', '.join(different)}; "
            "restore them, or use another name or --out"
        )
    if not same_directions:
        raise RequestError(
            f"the study {spec.name!r} must have the directions {', '.join(directions)}, but another program stored it "
            "with others; choose another name"
        )
    return join_study(storage, spec, space=space, say=say)


def join_study(storage: BaseStorage, spec: StudySpec, *, space: Suggesting, say: Notice) -> optuna.Study:
    """Load the opened study in another process; see `open_study`."""

    def faulty(number: int, fault: str) -> None:
        say(f"trial {number} in the storage is not a valid trial ({fault}); it is not used")

    checked: Any = CheckedStorage(get_storage(storage), TrialRules.of(spec, space), faulty)
    return optuna.load_study(study_name=spec.name, storage=checked)


LATER_KEYS_OF_DATA = (
    *("task", "crop", "erase", "spec_augment", "mixup", "cutmix", "augment", "views"),
    *("folder", "image_size"),
)
"""Keys that earlier versions did not have."""


def study_identity(
    spec: StudySpec, *, space_hash: str, data_fingerprint: str, metric_code: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return the identity of a study: its file without total and device, its space, its data and its metrics.

    metric_code: digest of the module of each metric of the user, by reference.
    """
    values = spec.model_dump(mode="json", exclude={"trials", "device"})
    if spec.target == TargetSection():
        del values["target"]  # keeps the identity of studies from before this key
    if not spec.devices:
        del values["devices"]  # the same
    if not spec.pruning.keep:
        del values["pruning"]  # the same
    if not spec.tasks:
        del values["tasks"]  # the same
    if not spec.metrics:
        del values["metrics"]  # the same
    if spec.search.accuracy_floor is None:
        del values["search"]["accuracy_floor"]  # the same
    for key in ("warm_start", "prior"):
        if not values["search"][key]:
            del values["search"][key]  # the same
    for key in LATER_KEYS_OF_DATA:
        if values["data"][key] is None:
            del values["data"][key]  # the same
    code = {"metrics (their text)": dict(metric_code)} if metric_code else {}
    return {**values, "space (its text)": space_hash, "data (its contents)": data_fingerprint, **code}


def differing_keys(known: dict[str, Any], wanted: dict[str, Any], prefix: str = "") -> list[str]:
    """Return dotted names of the keys with different values, and both values."""
    different = []
    for key in sorted(known.keys() | wanted.keys()):
        before, now = known.get(key), wanted.get(key)
        if isinstance(before, dict) and isinstance(now, dict):
            different += differing_keys(before, now, f"{prefix}{key}.")
        elif before != now:
            different.append(f"{prefix}{key} (was {before!r}, is {now!r})")
    return different


def _raised_in_storage(error: BaseException) -> bool:
    """True if an error comes from Optuna's storages, which do not expect rows of other programs."""
    modules = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    return any(name.startswith("optuna.storages") for name in modules)


def _first_line(error: BaseException, url: str | None = None) -> str:
    root = error.__cause__ or error
    return without_secrets(f"{type(root).__name__}: {root}", url).splitlines()[0]
