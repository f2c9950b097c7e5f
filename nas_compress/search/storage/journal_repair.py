"""Repair of a journal that is damaged, lost, or contradicts the records of the run.

The records are sealed, so they decide. The earlier journal is kept under another name.
"""

from __future__ import annotations

import itertools
import os
import shutil
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, JournalStorage
from optuna.trial import FrozenTrial, TrialState

from nas_compress.config.schema import StudySpec
from nas_compress.errors import RequestError, RunError
from nas_compress.files import digest_of_values, write_text
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import Record
from nas_compress.search.samplers.proposals import Suggesting
from nas_compress.search.storage.attribute_names import IDENTITY
from nas_compress.search.storage.checked_storage import TrialRules
from nas_compress.search.storage.journal import (
    LARGEST_JOURNAL,
    Damage,
    Operations,
    count_lines,
    journal_text,
    open_journal,
    read_journal,
)
from nas_compress.search.storage.optuna_trials import bare_trial, difference, told_trial
from nas_compress.search.storage.recovery import remove_trial
from nas_compress.tasks.task import Task

MOST_TRIALS = 100_000
"""Largest number of a trial. A folder with a huge number must not fill the journal."""


@dataclass(frozen=True, kw_only=True)
class Repaired:
    """A journal ready for a run. notice: a line about its repair, None if it was sound."""

    storage: BaseStorage
    notice: str | None


@dataclass(frozen=True, kw_only=True)
class JournalKeeper:
    """Everything about a study that decides if its journal is right.

    identity: of the study file. identity_at_start: the digest of the first identity, as run.json has it; None if it has
    none. records: of all finished trials of the run.
    """

    folder: RunFolder
    spec: StudySpec
    task: Task
    space: Suggesting
    identity: Mapping[str, Any]
    identity_at_start: str | None
    records: Sequence[Record]

    def open(self) -> Repaired:
        """Open the journal and repair it if necessary.

        A journal of another study file is left as it is. Its study is refused later. RequestError if the study file is
        another one than at the start, and the journal cannot show the differences.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        storage, damage = read_journal(self.folder.journal)
        study = self._study(storage)
        known = None if study is None else study.user_attrs.get(IDENTITY)
        changed = digest_of_values(self.identity) != self.identity_at_start
        if known not in (None, self.identity) and changed:
            return Repaired(storage=storage, notice=None)
        if self.records and changed and self.identity_at_start is not None:
            raise RequestError(
                f"a study must continue with its first study file, but this one differs and {self.folder.journal} "
                "is not the journal of the run; restore the study file, or use another --out"
            )
        trials = [] if study is None else study.get_trials(deepcopy=False)
        wrong = self._contradiction(study, trials)
        if damage is None and wrong is None:
            return Repaired(storage=storage, notice=None)
        event, lost = f"contradicted the records of the run ({wrong})", ""
        if damage is not None:
            event, lost = (
                f"was damaged at line {damage.line} ({damage.reason})",
                _lines_after(self.folder.journal, damage),
            )
        text = self._rebuilt(study, trials, {} if study is None else _system_attributes(storage, self.spec.name))
        kept = self._keep_old()
        write_text(self.folder.journal, text)
        notice = (
            f"{self.folder.journal.name} {event} and was made anew{lost}, with {len(self.records)} finished trials "
            f"from their records{kept}"
        )
        return Repaired(storage=open_journal(self.folder.journal), notice=notice)

    @property
    def _rules(self) -> TrialRules:
        return TrialRules.of(self.spec, self.space)

    def _study(self, storage: BaseStorage) -> optuna.Study | None:
        with suppress(KeyError):
            return optuna.load_study(study_name=self.spec.name, storage=storage)
        return None

    def _contradiction(self, study: optuna.Study | None, trials: Sequence[FrozenTrial]) -> str | None:
        """Return the first contradiction between the journal and the run, None if there is none."""
        if study is None:
            return f"no study {self.spec.name}" if self.records else None
        known = study.user_attrs.get(IDENTITY)
        if known is None and not self.records:  # a new study, or one of another program
            return None
        if known != self.identity:
            return "the study file"
        if [direction.name.lower() for direction in study.directions] != list(self.spec.directions):
            return "the directions"
        if self.records and study.metric_names != list(self.spec.value_names):
            return "the names of the values"
        for record in self.records:
            if record.trial >= len(trials):
                return f"trial {record.trial}: missing"
            part = difference(trials[record.trial], self._expected(record), record, self.spec)
            if part is not None:
                return f"trial {record.trial}: {part}"
        return None

    def _expected(self, record: Record) -> FrozenTrial:
        return told_trial(record, self.spec, task=self.task, space=self.space)

    def _rebuilt(self, study: optuna.Study | None, trials: Sequence[FrozenTrial], system: Mapping[str, Any]) -> str:
        """Return the text of a new journal: trials by their records, the others as they were if that is possible.

        system: Optuna's own attributes of the study, such as notes of the dashboard.
        """
        operations = Operations()
        storage = JournalStorage(operations)
        new = optuna.create_study(study_name=self.spec.name, storage=storage, directions=list(self.spec.directions))
        for name, value in ({} if study is None else study.user_attrs).items():
            new.set_user_attr(name, value)
        for name, value in system.items():
            storage.set_study_system_attr(0, name, value)
        new.set_user_attr(IDENTITY, dict(self.identity))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            new.set_metric_names(list(self.spec.value_names))
        records, rules = {record.trial: record for record in self.records}, self._rules
        for number in range(max(len(trials), self._first_free_number())):
            trial = trials[number] if number < len(trials) else bare_trial(TrialState.FAIL)
            if number in records:
                expected = self._expected(records[number])
                sound = trial.state != TrialState.RUNNING and rules.fault(trial) is None
                if not sound or difference(trial, expected, records[number], self.spec) is not None:
                    trial = expected
            else:
                if rules.fault(trial) is not None:
                    trial = bare_trial(TrialState.FAIL)
                if trial.state == TrialState.FAIL:
                    remove_trial(self.folder, number)
            new.add_trial(trial)
        return journal_text(operations.logs)

    def _first_free_number(self) -> int:
        """Return the number after those of all records and folders of trials, which no new trial may get."""
        numbers = [int(path.name) for path in self.folder.root.glob("trials/*") if path.name.isdecimal()]
        numbers += [record.trial for record in self.records]
        if numbers and max(numbers) >= MOST_TRIALS:
            raise RunError(
                f"a run with a journal must have at most {MOST_TRIALS} trials, but there is "
                f"{self.folder.trial(max(numbers))}. Remove the folder and run the same command."
            )
        return max(numbers, default=-1) + 1

    def _keep_old(self) -> str:
        """Keep the old journal under another name, unless it is empty, and say so."""
        journal = self.folder.journal
        if not journal.stat().st_size:
            return ""
        names = (journal.with_name(f"{journal.name}.damaged-{count}") for count in itertools.count(1))
        kept = next(path for path in names if not path.exists())
        try:
            os.link(journal, kept)
        except OSError:  # a disk without links
            shutil.copyfile(journal, kept)
        return f"; the old one is {kept.name}"


def _system_attributes(storage: BaseStorage, study: str) -> dict[str, Any]:
    return storage.get_study_system_attrs(storage.get_study_id_from_name(study))


def _lines_after(path: Path, damage: Damage) -> str:
    """Say how many lines of a damaged journal are lost."""
    if path.stat().st_size > LARGEST_JOURNAL:
        return ", without the lines from there on"
    count = count_lines(path)
    return f", without the last {count - damage.line + 1} of {count} lines"
