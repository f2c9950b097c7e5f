"""Processes of a shared study: signs of life, trials in progress and finished trials.

A run has one folder and one or more processes. The processes of a run share its folder and hold file locks while they
live. Runs on several hosts share a database; each run writes heartbeats to it.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace

import optuna
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from nas_compress.callbacks import Notice, no_notice
from nas_compress.config.schema import StudySpec
from nas_compress.errors import DamagedFileError, RunError
from nas_compress.files import FileLock, in_use
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import Record, read_record, write_candidate, write_record
from nas_compress.search.samplers.proposals import Suggesting
from nas_compress.search.storage.attribute_names import ALIVE, FILE, MACHINE, OUTCOME, RUN, WORKER
from nas_compress.search.storage.other_hosts_records import SentFile, is_told, read_foreign
from nas_compress.search.storage.recovery import repeat, settle_cut_trials
from nas_compress.search.storage.shared_files import SharedStore
from nas_compress.tasks.task import Task

BEAT_S = 10.0
"""Seconds between two heartbeats of a run."""

GRACE_S = 60.0
"""Seconds without a heartbeat after which a run is dead and its trials are repeated. Clocks are not compared."""

LEAVE_S = 30.0
"""Limit of the wait for the processes of an earlier run, in seconds. They end with their run."""


@dataclass(kw_only=True, eq=False)
class Hosts:
    """One process of a run, among all processes of the study.

    worker: number of this process in its run; 0 is the starting process.
    machine: fingerprint of the target device. Latencies of other devices do not count.
    joined: True if the storage is a database; then other runs may share the study.
    shared: store for the exchange of files between hosts; without it each front has its own files only.
    space: the function of the search space; without it no records of other hosts are read.
    say: gets a line for each record of another host that is not valid.
    """

    study: optuna.Study
    folder: RunFolder
    run_id: str
    machine: str
    worker: int = 0
    joined: bool = False
    shared: SharedStore | None = None
    space: Suggesting | None = None
    say: Notice = no_notice
    _seen: dict[str, tuple[object, float]] = field(default_factory=dict, init=False)
    _without_record: set[int] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        if self.joined and MACHINE not in self.study.user_attrs:
            self.study.set_user_attr(MACHINE, self.machine)

    @property
    def counts(self) -> bool:
        """True if this machine's latencies count: those of the machine of the first run do."""
        return not self.joined or bool(self.study.user_attrs.get(MACHINE) == self.machine)

    def seed(self, seed: int) -> int:
        """Return this run's seed. Runs with the same seed would propose the same candidates at the same time."""
        return (seed + int(self.run_id[:7], 16)) % 2**32 if self.joined else seed

    @contextmanager
    def proposing(self) -> Iterator[None]:
        """Hold the lock for proposing and signing trials in this run."""
        with _lock(self.folder, "proposals"):
            yield

    def sign(self, trial: optuna.Trial) -> None:
        """Write this run and process into a trial."""
        if self.worker:
            trial.set_user_attr(WORKER, self.worker)
        trial.set_user_attr(RUN, self.run_id)

    def is_own(self, trial: FrozenTrial) -> bool:
        """Return True if this run works on a trial."""
        return bool(trial.user_attrs.get(RUN) == self.run_id)

    def in_flight(self) -> list[FrozenTrial]:
        """Return the trials in progress."""
        return self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))

    def share(self, trial: optuna.Trial, record: Record) -> None:
        """Store the result of a trial for other runs, before it is marked as finished."""
        if not self.joined:
            return
        trial.set_user_attr(MACHINE, self.machine)
        shared = {"files": dict(record.files), "versions": dict(record.versions)}
        trial.set_user_attr(OUTCOME, {"outcome": record.outcome.to_dict(), "finished_s": record.finished_s, **shared})
        path = self.folder.root / record.model
        if self.shared is not None and record.model and record.repeats is None and path.is_file():
            trial.set_user_attr(FILE, self.shared.put(path, trial))

    def new_records(self, known: Collection[int]) -> list[Record]:
        """Return the records of finished trials except the `known` ones.

        Records and files of other runs are written into this run's folder. Latencies of
        machines that do not count are marked as noisy; those on the front are measured again here.
        """
        found = []
        for trial in self.study.get_trials(deepcopy=False):
            if trial.state.is_finished() and trial.number not in known and trial.number not in self._without_record:
                record = self._record(trial)
                if record is None:
                    self._without_record.add(trial.number)
                else:
                    found.append(record)
        return found

    def settle_cut(self, spec: StudySpec, *, task: Task, died: bool) -> int:
        """Settle the trials left RUNNING by an earlier process of this number; worker 0 settles all of its run.

        died: the process was killed or crashed. Return the number of trials queued again.
        """
        return settle_cut_trials(
            self.study,
            self.folder,
            spec,
            run=self.run_id,
            worker=self.worker or None,
            alone=not self.joined,
            task=task,
            died=died,
        )

    def give_up_dead(self) -> int:
        """Give up the trials of dead runs and queue them again. Return their number."""
        if not self.joined:
            return 0
        beats, now, count = self.study.user_attrs, time.monotonic(), 0
        for trial in self.in_flight():
            if self.is_own(trial):
                continue
            name = f"{ALIVE} {trial.user_attrs.get(RUN)}"
            value, since = self._seen.get(name, (None, now))
            if name not in self._seen or value != beats.get(name):
                self._seen[name] = (beats.get(name), now)
            elif now - since >= GRACE_S and self._close(trial):
                repeat(self.study, trial, trial.params, died=True)
                count += 1
        return count

    def was_given_up(self, number: int) -> bool:
        """Return True if another run took this one for dead and gave up its trial `number`."""
        trials = self.study.get_trials(deepcopy=False)
        return self.joined and any(each.number == number and each.state == TrialState.FAIL for each in trials)

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Write heartbeats of this run for other runs."""
        if not self.joined:
            yield
            return
        over = threading.Event()

        def beat() -> None:
            count = 0
            while not over.wait(BEAT_S if count else 0):
                count += 1
                with suppress(StorageInternalError):  # the search itself reports a lost storage
                    self.study.set_user_attr(f"{ALIVE} {self.run_id}", f"{time.time():.0f} {count}")

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _close(self, trial: FrozenTrial) -> bool:
        """Close a trial. Return False if another run did so at the same time."""
        try:
            self.study.tell(trial.number, state=TrialState.FAIL)
        except (UpdateFinishedTrialError, ValueError):
            return False
        return True

    def _record(self, trial: FrozenTrial) -> Record | None:
        """Return the record of a finished trial; None without a valid one."""
        own = self._own_record(trial)
        if own is not None:
            return own
        try:
            return self._fetched_record(trial)
        except ValueError as error:
            self.say(f"trial {trial.number} in the storage is not a valid record ({error}); it is not on the front")
            return None

    def _own_record(self, trial: FrozenTrial) -> Record | None:
        """Return the record in the run folder; None if the trial was given up."""
        record = read_record(self.folder, trial.number)
        return record if record is not None and is_told(trial, record.outcome.state) else None

    def _fetched_record(self, trial: FrozenTrial) -> Record | None:
        """Copy the record and the file of another run into this run's folder. ValueError if they are not valid."""
        if not self.joined or self.space is None or OUTCOME not in trial.user_attrs or self.is_own(trial):
            return None
        foreign = read_foreign(trial, self.space)
        record, outcome = foreign.record, foreign.record.outcome
        if not is_told(trial, outcome.state):
            return None
        if outcome.measured is not None and foreign.machine != self.machine and self.counts:
            noisy = tuple(outcome.measured.device_spreads)
            outcome = replace(outcome, measured=replace(outcome.measured, latency_noisy=True, noisy_devices=noisy))
        if record.repeats is None:
            record = self._with_file(record, foreign.file)
        record = replace(record, outcome=outcome)
        write_candidate(self.folder, trial.number, outcome.candidate)
        write_record(self.folder, record)
        return record

    def _with_file(self, record: Record, file: SentFile | None) -> Record:
        """Copy another run's file to the same path in this run's folder. Without one, the record has no model."""
        if file is None or self.shared is None:
            return replace(record, model="", files={})
        path = self.folder.root / record.model
        try:
            self.shared.fetch(file.name, path, sha256=file.sha256, size_bytes=file.size_bytes)
        except ValueError as error:
            raise DamagedFileError(
                f"--shared {self.shared.place} holds another file for trial {record.trial} than the measured one: "
                f"{error}. Restore it, or leave out --shared to continue without other hosts' files."
            ) from error
        return replace(record, files={record.model: file.sha256})


@contextmanager
def working(folder: RunFolder, worker: int) -> Iterator[None]:
    """Hold the lock of a living worker process."""
    with _lock(folder, f"worker-{worker}") as lock, in_use(folder.root, lock):
        yield


def wait_for_workers(folder: RunFolder) -> None:
    """Wait until no worker process of an earlier run lives. RunError is raised after `LEAVE_S`."""
    for path in folder.checkpoints.glob("worker-*.lock"):
        lock = FileLock(path)
        if not lock.wait(LEAVE_S):
            raise RunError(
                f"A worker process of an earlier run still works in {folder.root}. End it and run the same command."
            )
        lock.close()


@contextmanager
def _lock(folder: RunFolder, name: str) -> Iterator[FileLock]:
    lock = FileLock(folder.checkpoints / f"{name}.lock")
    lock.wait(math.inf)
    try:
        yield lock
    finally:
        lock.close()
