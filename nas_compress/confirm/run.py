"""Confirm a run: train chosen members again with other seeds, then read the test split once for all of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nas_compress.config.study_file import StudyFile
from nas_compress.confirm.controls import CONTROLS
from nas_compress.confirm.statistics import alike, summarise
from nas_compress.data.dataset import Dataset, Split
from nas_compress.errors import RequestError, require_known
from nas_compress.measurement.predictions import measure_metrics
from nas_compress.runs.bundle import trained_record
from nas_compress.runs.confirmation import (
    STUDENT,
    Confirmation,
    Summary,
    read_repetition,
    read_test_accuracies,
    repetition_folder,
    write_confirmation,
    write_repetition,
    write_test_accuracies,
)
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import Record, read_baseline
from nas_compress.search.reporter import Reporter, Silence
from nas_compress.search.setup import Ingredients, find_teacher, gather, make_context
from nas_compress.tasks.batch import to_arrays
from nas_compress.tasks.task import Task
from nas_compress.trial.context import TrialContext
from nas_compress.trial.run import run_trial
from nas_compress.trial.validity import check_candidate
from nas_compress.values.candidate import Candidate
from nas_compress.values.metrics import in_words
from nas_compress.values.outcome import Outcome
from nas_compress.values.point import Point

TEACHER = "teacher/model.onnx"

METRIC = "accuracy"
"""The metric that is confirmed."""


@dataclass(frozen=True, kw_only=True)
class Repetition:
    """One training of the plan: a member's candidate, or a control of it, with one seed."""

    record: Record
    role: str
    seed: int
    candidate: Candidate
    place: Path

    @property
    def file(self) -> Path:
        """Its model, in the member's own form."""
        return self.place / Path(self.record.model).name


def confirm_run(
    folder: RunFolder,
    members: Sequence[Point],
    *,
    seeds: int = 3,
    controls: Collection[str] = (),
    reporter: Reporter | None = None,
) -> Confirmation:
    """Train each member `seeds` times at the study's full budget, with the seeds after the study's own.

    `controls` names those of CONTROLS to train beside it. What was finished before is not trained again: stopped
    anywhere, the same call goes on. The test split is read once at the end, for the new files, the members' own files
    and the teacher's; confirm.json, confirm.csv and `confirm/` in the run folder keep all of it. RequestError before
    anything is trained where the data are not those of the run.
    """
    if seeds < 1:
        raise RequestError(f"seeds >= 1 must hold, but got seeds={seeds}")
    for name in controls:
        require_known("a control", name, CONTROLS)
    reporter = reporter or Silence()
    records = [trained_record(folder, int(point.trial)) for point in members]
    with folder.locked():
        parts = _gather(folder, records)
        context = make_context(parts, find_teacher(parts, reporter.stage))
        context = replace(context, budgets=())  # the full budget, whatever a repetition measures
        plan = _plan(folder, records, context, seeds=seeds, controls=controls, reporter=reporter)
        outcomes = [_train(item, context, reporter, number + 1, len(plan)) for number, item in enumerate(plan)]
        files = [item.file for item, outcome in zip(plan, outcomes, strict=True) if _done(outcome)]
        files += [folder.root / record.model for record in records] + [folder.root / TEACHER]
        test = _test_accuracies(folder, parts.dataset, files)
        confirmation = _confirmation(folder, records, plan, outcomes, test, len(parts.dataset.test))
        write_confirmation(folder, confirmation)
    return confirmation


def _gather(folder: RunFolder, records: Sequence[Record]) -> Ingredients:
    """The run's data and teacher section; its space is not needed, for the candidates are known."""
    if not records:
        raise RequestError(f"there must be a member to confirm, but the front of {folder.root} is empty")
    spec, home = folder.spec(), Path(folder.about()["study_folder"])
    candidate = records[0].outcome.candidate
    parts = gather(StudyFile(spec=spec, folder=home, label=str(folder.marker), candidate=candidate))
    validation = parts.dataset.validation
    for record in records:
        found = _primary(folder.root / record.model, parts.dataset.task, validation)
        measured = record.outcome.measured
        recorded = None if measured is None else measured.figures.get(METRIC)
        if recorded is not None and abs(found - recorded) > 1e-9:
            raise RequestError(
                f"the data must be those of the run, but trial {record.trial} has a validation {METRIC} of {found:.4f} "
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
    """The controls of a member by their names, without those that it is itself; says which it cannot have."""
    made: dict[str, Candidate] = {}
    for name in (name for name in CONTROLS if name in wanted):
        try:
            candidate = CONTROLS[name].make(record.outcome.candidate, context, record.outcome.seed)
            check_candidate(candidate)
        except RequestError as error:
            reporter.say(f"trial {record.trial} has no control {name}: {error}")
            continue
        if candidate != record.outcome.candidate:
            made[name] = candidate
    return made


def _train(item: Repetition, context: TrialContext, reporter: Reporter, number: int, total: int) -> Outcome:
    known = read_repetition(item.place)
    if known is not None and known.candidate == item.candidate:
        return known
    label = f"trial {item.record.trial}, {item.role}, seed {item.seed}"
    item.place.mkdir(parents=True, exist_ok=True)
    outcome = run_trial(
        item.candidate,
        context,
        seed=item.seed,
        model=item.file,
        on_epoch=lambda done, count: reporter.stage(label, done, count),
    )
    write_repetition(item.place, outcome)
    measured = outcome.measured
    words = f"failed: {outcome.reason}" if measured is None else f"{in_words(measured.figures, [METRIC])} (validation)"
    reporter.say(f"[{number}/{total}] {label}: {words}")
    return outcome


def _done(outcome: Outcome) -> bool:
    return outcome.state == "trained"


def _test_accuracies(folder: RunFolder, dataset: Dataset, files: Sequence[Path]) -> dict[str, float]:
    """Test accuracy of every file by its path in the run folder; the test split is read only for files that need it."""
    names = [str(path.relative_to(folder.root)) for path in files]
    known = read_test_accuracies(folder)
    missing = [name for name in names if name not in known]
    if missing:
        purpose = f"confirm {folder.spec().name}: {len(missing)} files"
        test = dataset.test.reveal(purpose=purpose)
        known |= {name: _primary(folder.root / name, dataset.task, test) for name in missing}
        write_test_accuracies(folder, known, purpose)
    return known


def _primary(file: Path, task: Task, split: Split) -> float:
    """Return the task's primary metric of a file on a split."""
    metrics = measure_metrics(file, task, inputs=to_arrays(split.inputs), targets=to_arrays(split.targets))
    return metrics[task.metrics[0]]


def _confirmation(
    folder: RunFolder,
    records: Sequence[Record],
    plan: Sequence[Repetition],
    outcomes: Sequence[Outcome],
    test: dict[str, float],
    test_samples: int,
) -> Confirmation:
    rows: list[Summary] = []
    for record in records:
        for role in dict.fromkeys(item.role for item in plan if item.record is record):
            pairs = [pair for pair in zip(plan, outcomes, strict=True) if pair[0].record is record]
            own = [(item, outcome) for item, outcome in pairs if item.role == role]
            places = [item.file for item, outcome in own if _done(outcome)]
            rows.append(
                summarise(
                    record.trial,
                    role,
                    [outcome for _, outcome in own],
                    [test[str(place.relative_to(folder.root))] for place in places],
                    metric=METRIC,
                    searched=record.outcome.measured if role == STUDENT else None,
                    test_shipped=test[record.model] if role == STUDENT else None,
                )
            )
    teacher = read_baseline(folder)
    return Confirmation(
        rows=tuple(rows),
        alike=alike(rows),
        test_samples=test_samples,
        metric=METRIC,
        teacher_validation=teacher.figures.get(METRIC, 0.0) if teacher else 0.0,
        teacher_test=test[TEACHER],
    )
