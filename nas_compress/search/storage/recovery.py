"""Recovery of interrupted trials: finished by their record if it is complete, else queued again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import optuna
from optuna.trial import FrozenTrial, TrialState

from nas_compress.config.schema import StudySpec
from nas_compress.errors import RequestError
from nas_compress.files import tidy
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import Record, read_record
from nas_compress.search.storage.attribute_names import DEATHS, RUN, WORKER
from nas_compress.search.storage.optuna_trials import ended_state, told_values
from nas_compress.tasks.task import Task
from nas_compress.values.file_constants import FORMS

REPEATS = "repeats_cut_trial"
"""User attribute of a queued trial: number of the interrupted or lost trial with these parameters."""

MOST_DEATHS = 5
"""Number of deaths after which parameters are not tried again. They may be the cause, for example by their memory."""


def repeat(study: optuna.Study, trial: FrozenTrial, params: Mapping[str, object], *, died: bool) -> None:
    """Queue the parameters of an interrupted trial. died: its process was killed or crashed."""
    deaths = int(trial.user_attrs.get(DEATHS, 0)) + died
    study.enqueue_trial(dict(params), user_attrs={REPEATS: trial.number, DEATHS: deaths})


def deadly(trial: optuna.Trial) -> str | None:
    """Return the reason not to try a queued trial again, or None."""
    deaths = trial.user_attrs.get(DEATHS, 0)
    if deaths < MOST_DEATHS:
        return None
    return f"{deaths} processes died while they tried this candidate; it may need more memory than there is"


def settle_cut_trials(
    study: optuna.Study,
    folder: RunFolder,
    spec: StudySpec,
    *,
    run: str,
    worker: int | None = None,
    alone: bool,
    task: Task,
    died: bool,
) -> int:
    """Settle the RUNNING trials of ended processes. Return the number of trials queued again.

    run, worker: the run, and its worker process if only this process ended. alone: no other run shares the storage;
    then trials without a run's name belong to this run. died: the processes were killed or crashed.
    """
    repeated = 0
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        signed = trial.user_attrs
        if signed.get(RUN, run if alone else None) == run and worker in (None, signed.get(WORKER, worker)):
            repeated += settle_cut(study, trial, folder, spec, task=task, died=died)
    return repeated


def settle_cut(
    study: optuna.Study,
    trial: FrozenTrial,
    folder: RunFolder,
    spec: StudySpec,
    *,
    task: Task,
    died: bool,
) -> bool:
    """Tell an interrupted trial if its record is complete, else give it up. Return True if it is queued again."""
    record = read_record(folder, trial.number)
    if record is None:
        return give_up(study, trial, folder, died=died)
    tell(study, record, spec, task=task)
    return False


def give_up(study: optuna.Study, trial: FrozenTrial, folder: RunFolder, *, died: bool) -> bool:
    """Close an interrupted trial and queue its parameters again. It does not count towards the total.

    Return False if its candidate was incomplete and not queued before. Then nothing is queued: the sampler's seed
    proposes it again.
    """
    study.tell(trial.number, state=TrialState.FAIL)
    remove_trial(folder, trial.number)
    tidy(folder.trial(trial.number))
    whole = (folder.trial(trial.number) / "candidate.json").is_file()
    queued = trial.params if whole else trial.system_attrs.get("fixed_params")
    if queued is not None:
        repeat(study, trial, queued, died=died)
    return queued is not None


def remove_trial(folder: RunFolder, number: int) -> None:
    """Remove the record and the files of a trial."""
    for name in ("outcome.json", *FORMS.values()):
        (folder.trial(number) / name).unlink(missing_ok=True)


def repeat_lost(study: optuna.Study, records: Sequence[Record], *, run: str, alone: bool) -> list[int]:
    """Queue the parameters of this run's told trials without a record, because their folders were removed.

    run, alone: see `settle_cut_trials`. Return the numbers of these trials.
    """
    known = {record.trial for record in records}
    trials = study.get_trials(deepcopy=False)
    repeated = {trial.user_attrs.get(REPEATS) for trial in trials}
    lost = [
        trial
        for trial in trials
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
        and trial.number not in known | repeated
        and trial.user_attrs.get(RUN, run if alone else None) == run
    ]
    for trial in lost:
        repeat(study, trial, trial.params, died=False)
    return [trial.number for trial in lost]


def require_same_trials(study: optuna.Study, folder: RunFolder, records: Sequence[Record]) -> None:
    """Raise RequestError if the run folder has records without a trial in the storage.

    New trials would get the same numbers and overwrite them.
    """
    known = {trial.number for trial in study.get_trials(deepcopy=False)}
    strange = [record.trial for record in records if record.trial not in known]
    if strange:
        raise RequestError(
            f"the storage must hold the trials of the run folder, but it has no trial {strange[0]} and "
            f"{folder.trial(strange[0])} holds its record; restore the storage or use another --out"
        )


def tell(study: optuna.Study, record: Record, spec: StudySpec, *, task: Task) -> None:
    """Tell Optuna how a trial ended."""
    state = ended_state(record, spec)
    if state == TrialState.COMPLETE:
        values = told_values(record.outcome, spec, task=task) if record.told is None else record.told.values
        study.tell(record.trial, list(values))
    else:
        study.tell(record.trial, state=state)
