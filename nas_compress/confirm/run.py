"""Confirm a run: retrain members with new seeds, then read the test split once."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from nas_compress.config.study_file import StudyFile
from nas_compress.config.user_code_files import named_code
from nas_compress.confirm.controls import CONTROLS
from nas_compress.confirm.member_runs import Repetition, member_runs, require_points
from nas_compress.confirm.statistics import alike
from nas_compress.confirm.study_of_run import study_of_run
from nas_compress.confirm.tested_files import TestedFile
from nas_compress.data.dataset import Dataset, Split
from nas_compress.devices.onnx_session import file_signature
from nas_compress.errors import RequestError, require_known
from nas_compress.files import make_folder
from nas_compress.measurement.predictions import measure_metrics
from nas_compress.runs.bundle import trained_record
from nas_compress.runs.checks.model_files import TEACHER, digests, model_path, require_file, teacher_path
from nas_compress.runs.confirmation import (
    STUDENT,
    Confirmation,
    read_repetition,
    read_test_figures,
    repetition_folder,
    repetition_remedy,
    write_confirmation,
    write_repetition,
    write_test_figures,
)
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.front import conditions_in_words
from nas_compress.runs.records import Record, read_baseline
from nas_compress.search.reporter import Reporter, Silence
from nas_compress.search.setup import StudyParts, find_teacher, gather, make_context
from nas_compress.tasks.batch import to_arrays, to_rows
from nas_compress.tasks.task import Task
from nas_compress.trial.context import TrialContext
from nas_compress.trial.plan import candidate_rules
from nas_compress.trial.run import run_trial
from nas_compress.values.candidate import Candidate
from nas_compress.values.front_point import Point
from nas_compress.values.metrics.table import in_words
from nas_compress.values.outcome import Outcome


def confirm_run(
    folder: RunFolder,
    members: Sequence[Point],
    *,
    seeds: int = 3,
    controls: Collection[str] = (),
    study: StudyFile | None = None,
    reporter: Reporter | None = None,
) -> Confirmation:
    """Train each member `seeds` times at the study's full budget, with the seeds after the study's own.

    Members that are exit points of one trial share its trainings. Each training chooses its own thresholds for the
    stated loss of the member, and is measured with them.

    The confirmed metric is the primary one of the task.
    controls: names in CONTROLS to train as well. `no_teacher` is always among them if some training samples have no
    label.
    study: the user's own study file of the run. Its folder replaces the folder of code recorded in run.json.
    An interrupted call continues with the same arguments; finished trainings are kept.
    The test split is read once at the end, for the new files, the members' own files and the teacher's file.
    Results: confirm.json, confirm.csv and `confirm/` in the run folder.
    RequestError, before any training, if the data differ from those of the run, or if the run folder itself would
    supply the code.
    """
    if seeds < 1:
        raise RequestError(f"seeds >= 1 must hold, but got seeds={seeds}")
    for name in controls:
        require_known("a control", name, CONTROLS)
    reporter = reporter or Silence()
    records = [trained_record(folder, trial) for trial in dict.fromkeys(int(point.trial) for point in members)]
    with folder.locked():
        parts = _gather(folder, records, study, reporter)
        context = make_context(parts, find_teacher(parts, reporter.stage, reporter.say))
        context = replace(context, budgets=())  # a noisy latency must not end a repetition
        if parts.dataset.labelled_samples < len(parts.dataset.train):
            controls = (*controls, "no_teacher")  # the gain by samples without a label is the question of such a study
        plan = _plan(folder, records, context, seeds=seeds, controls=controls, reporter=reporter)
        metric = parts.dataset.task.metrics[0]
        require_points(members, [(item, outcome) for item in plan if (outcome := _kept(folder, item)) is not None])
        outcomes = []
        for number, item in enumerate(plan, 1):
            outcomes.append(_train(folder, item, context, reporter))
            reporter.say(f"[{number}/{len(plan)}] {item.label}: {_result(outcomes[-1], metric)}")
        trained = [item for item, outcome in zip(plan, outcomes, strict=True) if outcome.state == "trained"]
        for item in trained:
            _measured_file(folder, item)
        runs = member_runs(folder, members, records, list(zip(plan, outcomes, strict=True)))
        files = [file for run in runs for file in run.files]
        test = _test_figures(folder, parts.dataset, [*files, TestedFile(path=teacher_path(folder))])
        rows = tuple(run.summary(test, folder.root, metric) for run in runs)
        confirmation = Confirmation(
            rows=rows,
            alike=alike(rows),
            test_samples=len(parts.dataset.test),
            teacher_validation=_teacher_figure(folder, metric),
            teacher_test=test[TEACHER],
            metric=metric,
            conditions=conditions_in_words(
                {"": parts.target.settings.conditions, **dict(parts.spec.device_conditions)}
            ),
        )
        write_confirmation(folder, confirmation)
    return confirmation


def _gather(folder: RunFolder, records: Sequence[Record], own: StudyFile | None, reporter: Reporter) -> StudyParts:
    """Load the data and the teacher section of the run. The space is not needed because the candidates are known.

    The reporter receives a line for each file of the user's code before it is loaded.
    """
    if not records:
        raise RequestError(f"no member to confirm: the front of {folder.root} is empty")
    file = study_of_run(folder, records[0].outcome.candidate, own=own)
    for code in named_code(file):
        reporter.say(str(code))
    parts = gather(file)
    if not len(parts.dataset.test):
        raise RequestError(f'confirm needs a test split, but {parts.dataset.name} returned none; add "test" to it')
    metric = parts.dataset.task.metrics[0]
    teacher_path(folder)
    for record in records:
        path = model_path(folder, record)
        data = parts.dataset.fitting(file_signature(path))
        found = _primary(path, data.task, data.validation)
        measured = record.outcome.measured
        recorded = None if measured is None else measured.figures.get(metric)
        if recorded is not None and abs(found - recorded) > 1e-9:
            raise RequestError(
                f"the data must be those of the run, but trial {record.trial} has a validation {metric} of {found:.4f} "
                f"on {parts.dataset.name} and its record says {recorded:.4f}"
            )
    return parts


def _plan(
    folder: RunFolder,
    records: Sequence[Record],
    context: TrialContext,
    *,
    seeds: int,
    controls: Collection[str],
    reporter: Reporter,
) -> list[Repetition]:
    plan = []
    for record in records:
        roles = {STUDENT: record.outcome.candidate} | _controls(record, controls, context, reporter)
        for role, candidate in roles.items():
            for seed in range(record.outcome.seed + 1, record.outcome.seed + 1 + seeds):
                place = repetition_folder(folder, record.trial, role, seed)
                plan.append(Repetition(record=record, role=role, seed=seed, candidate=candidate, place=place))
    return plan


def _controls(
    record: Record, wanted: Collection[str], context: TrialContext, reporter: Reporter
) -> dict[str, Candidate]:
    """The wanted controls of a member by name. Reports impossible ones; leaves out a control equal to the member."""
    made: dict[str, Candidate] = {}
    for name in (name for name in CONTROLS if name in wanted):
        try:
            candidate = CONTROLS[name].make(record.outcome.candidate, context, record.outcome.seed)
            candidate_rules(context, seed=record.outcome.seed).require(candidate)
        except RequestError as error:
            reporter.say(f"trial {record.trial} has no control {name}: {error}")
            continue
        if candidate != record.outcome.candidate:
            made[name] = candidate
    return made


def _train(folder: RunFolder, item: Repetition, context: TrialContext, reporter: Reporter) -> Outcome:
    """Train a repetition unless it is finished. DamagedFileError if its file is not the one that was measured."""
    known = _kept(folder, item)
    if known is not None:
        if known.state == "trained":
            _measured_file(folder, item)
        return known
    make_folder(item.place)
    outcome = run_trial(
        item.candidate,
        context,
        seed=item.seed,
        model=item.file,
        on_epoch=lambda done, count: reporter.stage(item.label, done, count),
    )
    written = [item.file] if outcome.state == "trained" else []
    write_repetition(item.place, outcome, files=digests(folder.root, written))
    return outcome


def _kept(folder: RunFolder, item: Repetition) -> Outcome | None:
    """Return the outcome of a finished repetition of the same candidate."""
    known = read_repetition(folder, item.place)
    return known[0] if known is not None and known[0].candidate == item.candidate else None


def _measured_file(folder: RunFolder, item: Repetition) -> Path:
    """Return the model of a trained repetition; DamagedFileError unless it is the file that was measured."""
    known = read_repetition(folder, item.place)
    files = {} if known is None else known[1]
    require_file(folder, item.file.relative_to(folder.root).as_posix(), files, repetition_remedy(item.place))
    return item.file


def _result(outcome: Outcome, metric: str) -> str:
    if outcome.measured is None:
        return f"failed: {outcome.reason}"
    return f"{in_words(outcome.measured.figures, [metric])} (validation)"


def _test_figures(folder: RunFolder, dataset: Dataset, files: Sequence[TestedFile]) -> dict[str, float]:
    """The metric of every file on the test split, by its name. Known figures are not read again."""
    by_name = {file.name(folder.root): file for file in files}
    found = {name: file.digest() for name, file in by_name.items()}
    known = read_test_figures(folder)
    missing = [name for name, digest in found.items() if known.get(name, ("", None))[1] not in ("", digest)]
    if missing:
        purpose = f"confirm {folder.spec().name}: {len(missing)} files"
        by_size = {}
        for name in missing:
            with by_name[name].opened() as path:
                data = dataset.fitting(file_signature(path))
                if data.fingerprint not in by_size:
                    by_size[data.fingerprint] = data.test.reveal(purpose=purpose)
                known[name] = (_primary(path, data.task, by_size[data.fingerprint]), found[name])
        write_test_figures(folder, known, purpose)
    return {name: figure for name, (figure, _) in known.items()}


def _primary(file: Path, task: Task, split: Split) -> float:
    """Return the task's primary metric of a file on a split."""
    metrics = measure_metrics(file, task, inputs=to_rows(split.inputs), targets=to_arrays(split.targets))
    return metrics[task.metrics[0]]


def _teacher_figure(folder: RunFolder, metric: str) -> float:
    teacher = read_baseline(folder)
    return teacher.figures.get(metric, 0.0) if teacher else 0.0
