"""Several hosts on one study: each has its run folder, the storage has the trials, a shared store has the files."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from nas_compress.files import write_json
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import Record, write_record
from nas_compress.search.storage.recovery import RUN, repeat
from nas_compress.search.storage.shared_files import SharedStore
from nas_compress.values.outcome import Outcome

FILE, OUTCOME, MACHINE, ALIVE = "file", "record", "machine", "alive"
"""Attributes of a trial: its file's name in the shared store, what came of it, where its latency was taken; and of the
study: each run's heartbeat, and the machine whose latencies count."""

BEAT_S = 10.0
"""A run shows that it lives this often."""

GRACE_S = 60.0
"""A run whose beat stood still for so long is dead, and its trials are repeated. Clocks are not compared."""


@dataclass(kw_only=True, eq=False)
class Joint:
    """One run among those of a study on a database.

    `shared` is what all hosts reach; without it a run's front has its own files only. `machine` is this machine's key.
    """

    study: optuna.Study
    folder: RunFolder
    run_id: str
    machine: str
    shared: SharedStore | None = None
    _seen: dict[str, tuple[object, float]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        if MACHINE not in self.study.user_attrs:
            self.study.set_user_attr(MACHINE, self.machine)

    @property
    def counts(self) -> bool:
        """Whether this machine's latencies are those of the study: that of the run that began it."""
        return bool(self.study.user_attrs[MACHINE] == self.machine)

    def seed(self, seed: int) -> int:
        """A seed of this run's own: runs with one seed would propose the same candidates at the same time."""
        return (seed + int(self.run_id[:7], 16)) % 2**32

    def in_flight(self) -> list[FrozenTrial]:
        """Trials that other runs work on."""
        return [trial for trial in self._others() if trial.state == TrialState.RUNNING]

    def earlier(self, number: int) -> int:
        """How many trials with a smaller number other runs work on."""
        return sum(trial.number < number for trial in self.in_flight())

    def share(self, trial: optuna.Trial, record: Record) -> None:
        """Put a finished trial where the other runs find it, before they see that it is finished."""
        trial.set_user_attr(MACHINE, self.machine)
        trial.set_user_attr(OUTCOME, {"outcome": record.outcome.to_dict(), "finished_s": record.finished_s})
        path = self.folder.root / record.model
        if self.shared is not None and record.model and record.repeats is None and path.is_file():
            trial.set_user_attr(FILE, self.shared.put(path, trial))

    def news(self, known: Collection[int]) -> list[Record]:
        """What other runs finished beside the trials `known`, written into this run folder with their files.

        Latencies of machines that do not count are noisy: on the front they are measured again here.
        """
        found = []
        for trial in self._others():
            if trial.number not in known and _is_told(trial):
                record = self._record(trial)
                write_json(self.folder.trial(trial.number) / "candidate.json", record.outcome.candidate.to_dict())
                write_record(self.folder, record)
                found.append(record)
        return found

    def bury(self) -> int:
        """Give up trials of runs that are dead and queue them again; how many. To be called now and then."""
        beats, now, buried = self.study.user_attrs, time.monotonic(), 0
        for trial in self.in_flight():
            name = f"{ALIVE} {trial.user_attrs.get(RUN)}"
            value, since = self._seen.get(name, (None, now))
            if name not in self._seen or value != beats.get(name):
                self._seen[name] = (beats.get(name), now)
            elif now - since >= GRACE_S and self._closed(trial):
                repeat(self.study, trial, trial.params, died=True)
                buried += 1
        return buried

    def gave_up(self, number: int) -> bool:
        """Whether another run took this one for dead and gave up its trial of that number."""
        return self.study.get_trials(deepcopy=False)[number].state == TrialState.FAIL

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Show inside that this run lives."""
        over = threading.Event()

        def beat() -> None:
            count = 0
            while not over.wait(BEAT_S if count else 0):
                count += 1
                with suppress(StorageInternalError):  # the search itself says that the storage is gone
                    self.study.set_user_attr(f"{ALIVE} {self.run_id}", f"{time.time():.0f} {count}")

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _closed(self, trial: FrozenTrial) -> bool:
        """Close a trial; False where another run did so at the same time."""
        try:
            self.study.tell(trial.number, state=TrialState.FAIL)
        except (UpdateFinishedTrialError, ValueError):
            return False
        return True

    def _others(self) -> list[FrozenTrial]:
        trials = self.study.get_trials(deepcopy=False)
        return [trial for trial in trials if trial.user_attrs.get(RUN) != self.run_id]

    def _record(self, trial: FrozenTrial) -> Record:
        known: dict[str, Any] = dict(trial.user_attrs)
        outcome = Outcome.from_dict(known[OUTCOME]["outcome"])
        if outcome.measured is not None and known.get(MACHINE) != self.machine and self.counts:
            outcome = replace(outcome, measured=replace(outcome.measured, latency_noisy=True))
        return Record(
            trial=trial.number,
            params=trial.params,
            outcome=outcome,
            finished_s=known[OUTCOME]["finished_s"],
            model=known["model"] if known["repeats"] is not None else self._fetched(known["model"], known.get(FILE)),
            repeats=known["repeats"],
        )

    def _fetched(self, model: str, name: str | None) -> str:
        """The path of another run's file in this run folder, where it lies as it lay there; empty where it has none."""
        if name is None or self.shared is None:
            return ""
        self.shared.fetch(name, self.folder.root / model)
        return model


def _is_told(trial: FrozenTrial) -> bool:
    """Whether a trial is finished with an outcome; one that was given up may have one that nobody kept."""
    if OUTCOME not in trial.user_attrs or not trial.state.is_finished():
        return False
    failed: bool = trial.user_attrs[OUTCOME]["outcome"]["state"] == "failed"
    return failed is (trial.state == TrialState.FAIL)
