"""Run a study to its total of trials. The same call continues it after any stop."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import optuna

from nas_compress.callbacks import Notice
from nas_compress.config.study_file import StudyFile, read_study
from nas_compress.config.user_code_files import code_digests, named_code
from nas_compress.errors import RequestError
from nas_compress.files import digest_of_values
from nas_compress.runs.checks.model_files import model_path, teacher_path
from nas_compress.runs.checks.upgrade import adopt
from nas_compress.runs.folder import RunFolder, require_free
from nas_compress.runs.front import Front
from nas_compress.runs.records import Record, count_records, ignored_folders, read_baseline, read_records
from nas_compress.runs.results import make_front
from nas_compress.runs.versions import continuation_notes, versions
from nas_compress.search.ask_and_tell import Clock, Trials
from nas_compress.search.float32_comparison import compare_members
from nas_compress.search.loop import search
from nas_compress.search.preflight.accuracy_floor import require_floor_in_reach
from nas_compress.search.preflight.cut_notes import cut_notes
from nas_compress.search.preflight.feasibility import (
    draw_candidates,
    reads_answers,
    refuse_out_of_reach,
    within_reach,
)
from nas_compress.search.preflight.float_weights import float_weights_note
from nas_compress.search.preflight.teacher_check import check_own_teacher
from nas_compress.search.preflight.unlabelled_notes import known_labels, label_notes
from nas_compress.search.preflight.warnings import notes
from nas_compress.search.progress import Progress
from nas_compress.search.remeasure import (
    described_devices,
    measure_members_again,
    measure_missing,
    measure_teacher_missing,
    settle_devices,
    take_over,
)
from nas_compress.search.reporter import Logged, Reporter, Silence
from nas_compress.search.samplers.table import SAMPLERS
from nas_compress.search.setup import (
    StudyParts,
    baseline,
    find_teacher,
    gather,
    make_context,
    measured_against,
)
from nas_compress.search.start_points import queue_start_points
from nas_compress.search.storage.earlier_runs import learn_from_earlier, require_earlier_runs
from nas_compress.search.storage.hosts import Hosts, wait_for_workers
from nas_compress.search.storage.journal_repair import JournalKeeper
from nas_compress.search.storage.optuna_storage import (
    known_errors,
    open_study,
    opened_storage,
    require_same_storage,
    study_identity,
)
from nas_compress.search.storage.recovery import repeat_lost, require_same_trials
from nas_compress.search.storage.shared_files import SharedStore, open_shared
from nas_compress.search.storage.urls import shown_url
from nas_compress.search.workers.count import AUTO, worker_count
from nas_compress.search.workers.processes import Workers, WorkerTask
from nas_compress.tasks.task import task_chance
from nas_compress.teacher.teacher import Teacher
from nas_compress.values.metrics.row import ONE_SAMPLE
from nas_compress.values.metrics.table import METRICS, in_words
from nas_compress.values.outcome import Measured


def run_study(
    study: StudyFile | str | Path,
    *,
    out: Path | None = None,
    trials: int | None = None,
    storage: str | None = None,
    shared: str | Path | None = None,
    workers: int | Literal["auto"] = 1,
    reporter: Reporter | None = None,
) -> Front:
    """Run a study to its total of `trials` and return its front. Finished trials are not repeated.

    study: a study.toml, its folder, a built-in name, or the result of `read_study`.
    out: the run folder, by default `runs/<study name>`.
    storage: URL of a database, instead of the journal in the run folder. The same call on other hosts, each with its
    own run folder, joins the study.
    shared: folder in reach of all hosts, or `s3://bucket/prefix`, for the exchange of files.
    workers: number of training processes, with one thread each, or `auto`: one per physical core, as far as the memory
    permits. With 1, this process trains.
    RequestError is raised before anything is written if the request is wrong, and RunError if the run cannot continue.

    >>> front = run_study("mine", trials=1)
    >>> [point.trial for point in front.members]
    [0]
    """
    if trials is not None and trials < 1:
        raise RequestError(f"trials >= 1 must hold, but got trials={trials}")
    if workers != AUTO and workers < 1:
        raise RequestError(f"workers >= 1 must hold, but got workers={workers}")
    if shared is not None and storage is None:
        raise RequestError(f"--shared needs --storage, a database for several hosts, but got --shared {shared} alone")
    store = None if shared is None else open_shared(shared)
    file = named_apart(study if isinstance(study, StudyFile) else read_study(study))
    reporter = reporter or Silence()
    folder = RunFolder(root=(out or default_folder(file)).absolute())
    require_free(folder.root)
    code = [str(each) for each in named_code(file)]
    for line in code:
        reporter.say(line)
    parts = gather(file, progress=reporter.stage, notice=reporter.say)
    found: list[str] = []
    check_own_teacher(parts, found.append)
    for line in found:
        reporter.say(line)
    if folder.marker.is_file():
        require_same_storage(folder, storage)
    else:
        _check_space(parts, reporter, storage)
    total = trials or (1 if file.candidate else file.spec.trials)
    left = max(1, total - count_records(folder))
    count = worker_count(workers, trials=left, dataset=parts.dataset, device=parts.device.type)
    with folder.locked(), known_errors(storage), ExitStack() as stack:
        wait_for_workers(folder)
        folder.tidy()
        reporter = Logged(reporter, folder.log)
        records = read_records(folder)
        opened = _open(parts, folder, records, stack, url=storage, say=reporter.say)
        for line in (*code, *found):
            reporter.keep(line)
        if not folder.sealed:
            folder = _in_todays_format(folder, reporter)
            records = read_records(folder)
        require_same_trials(opened, folder, records)
        if storage is None:
            records = take_over(folder, parts, records, reporter.say)
        hosts = _join(opened, parts, folder, url=storage, total=max(total, len(records)), shared=store)
        hosts.say = reporter.say
        repeated = hosts.settle_cut(parts.spec, task=parts.dataset.task, died=True)
        for line in (*ignored_folders(folder), *continuation_notes(records, versions())):
            reporter.say(line)
        if records or repeated:
            cut = f"; interrupted trials to repeat: {repeated}" if repeated else ""
            reporter.say(f"continuing after {len(records)} finished trials{cut}")
        for number in repeat_lost(opened, records, run=hosts.run_id, alone=storage is None):
            reporter.say(f"trials/{number} has no record any more; its candidate is tried again under another number")
        queue_start_points(hosts.study, parts)
        figures, teacher = read_baseline(folder), None
        _require_files(folder, parts, figures, records)
        if figures is not None and len(records) >= total:
            reporter.say(f"nothing to do: {len(records)} trials are finished, the total asked for is {total}")
        else:
            _announce(parts, folder, records, total, reporter)
            teacher = find_teacher(parts, reporter.stage, reporter.say)
            figures = baseline(folder, teacher, parts.dataset, parts.target, parts.named)
            reporter.say(f"teacher: {in_words(figures.figures, METRICS)}")
            require_floor_in_reach(parts.spec, figures)
        figures = measure_teacher_missing(folder, parts) or figures
        parts = measured_against(parts, figures)
        if any(budget.relative for budget in parts.budgets):
            reporter.say(f"budgets against the teacher: {', '.join(map(str, parts.budgets))}")
            if not records:
                _refuse_relative(parts)
        if teacher is not None:
            learn_from_earlier(hosts.study, parts, reporter.say, counts=hosts.counts)
        if not hosts.counts:
            reporter.say(
                "warning: the study's latencies belong to the machine that started it. It will measure front members "
                f"of this machine ({parts.target.summary}) again; until then the front in this folder is provisional"
            )
        progress = Progress(
            parts=parts, folder=folder, reporter=reporter, total=total, teacher=figures, records=records
        )
        measure_missing(progress)
        progress.write(progress.front)
        with hosts.beating():
            if teacher is None:
                progress.take_in(hosts)
            else:
                _search(progress, hosts, teacher, workers=min(count, total - len(records)), storage=storage)
        shutil.rmtree(folder.checkpoints, ignore_errors=True)
        measure_missing(progress)
        settle_devices(progress, alone=storage is None)
        measure_members_again(progress)
        compare_members(progress)
        progress.close()
    return progress.front


def named_apart(file: StudyFile) -> StudyFile:
    """Give a study of one exported candidate its own name. It must not continue the original study."""
    if file.candidate is None:
        return file
    ending = f"-{file.candidate.fingerprint[:8]}"
    name = file.spec.name.removesuffix(ending) + ending
    return replace(file, spec=file.spec.model_copy(update={"name": name}))


def default_folder(file: StudyFile) -> Path:
    """Return the default run folder, relative to the working folder."""
    return Path("runs") / named_apart(file).spec.name


def _check_space(parts: StudyParts, reporter: Reporter, url: str | None) -> None:
    """Show warnings about random candidates. Refuse budgets out of reach of all of them, and settings of a device."""
    require_earlier_runs(parts, url=url)
    parts.named.described({})  # a device without the settings of the study is refused before anything is written
    sized, _ = draw_candidates(parts)
    candidates = [item.candidate for item in sized]
    for note in notes(
        candidates,
        classes=parts.dataset.task.classes,
        target=parts.target,
        longest=parts.dataset.longest,
    ):
        reporter.say(note)
    for note in [*cut_notes(parts, sized), *label_notes(parts, sized)]:
        reporter.say(note)
    floats = float_weights_note(parts, sized)
    if floats is not None:
        reporter.say(f"warning: {floats}")
    refuse_out_of_reach(parts, within_reach(parts, sized))


def _refuse_relative(parts: StudyParts) -> None:
    """Refuse budgets that are out of reach now that the teacher was measured."""
    if any(budget.relative and budget.metric.known_before_training for budget in parts.budgets):
        sized, _ = draw_candidates(parts)
        refuse_out_of_reach(parts, within_reach(parts, sized))


def _identity(parts: StudyParts) -> dict[str, Any]:
    return study_identity(
        parts.spec,
        space_hash=parts.space.source_hash,
        data_fingerprint=parts.dataset.fingerprint,
        metric_code=code_digests(parts.spec.metric_functions, folder=parts.file.folder),
    )


def _open(
    parts: StudyParts,
    folder: RunFolder,
    records: Sequence[Record],
    stack: ExitStack,
    *,
    url: str | None,
    say: Notice,
) -> optuna.Study:
    """Open the study in the storage, whose journal is repaired if necessary. RequestError if it is another study.

    stack: closes the storage.
    """
    identity, space = _identity(parts), parts.space.suggest
    if url is not None:
        storage = stack.enter_context(opened_storage(url, folder.journal))
        return open_study(storage, parts.spec, identity, space=space, say=say)
    repaired = JournalKeeper(
        folder=folder,
        spec=parts.spec,
        task=parts.dataset.task,
        space=space,
        identity=identity,
        identity_at_start=folder.about().get("identity") if folder.marker.is_file() else None,
        records=records,
    ).open()
    study = open_study(repaired.storage, parts.spec, identity, space=space, say=say)
    if repaired.notice is not None:
        say(repaired.notice)
    return study


def _in_todays_format(folder: RunFolder, reporter: Reporter) -> RunFolder:
    """Give the files of an earlier version their checksums."""
    adopted = adopt(folder)
    reporter.say("the run folder of an earlier version got checksums for its records and model files as they are")
    return adopted


def _join(
    study: optuna.Study,
    parts: StudyParts,
    folder: RunFolder,
    *,
    url: str | None,
    total: int,
    shared: SharedStore | None,
) -> Hosts:
    """Write the run folder's marker and return this process among those of the study."""
    run_id = folder.about()["run"] if folder.marker.is_file() else uuid.uuid4().hex
    folder.start(
        {
            "run": run_id,
            "identity": digest_of_values(_identity(parts)),
            "study": parts.spec.model_dump(mode="json") | {"trials": total},
            "study_folder": str(parts.file.folder),
            "classes": parts.dataset.task.classes,
            **({"class_names": list(names)} if (names := parts.dataset.task.class_names) else {}),
            "chance": task_chance(parts.dataset.task),
            **known_labels(parts),
            "space": {"name": parts.space.name, "hash": parts.space.source_hash},
            "data": parts.dataset.fingerprint,
            "storage": shown_url(url),
            "versions": versions(),
            "machine": parts.target.describe(),
            **described_devices(folder, parts),
        }
    )
    return Hosts(
        study=study,
        folder=folder,
        run_id=run_id,
        machine=parts.target.fingerprint,
        joined=url is not None,
        shared=shared,
        space=parts.space.suggest,
    )


def _require_files(folder: RunFolder, parts: StudyParts, teacher: Measured | None, records: Sequence[Record]) -> None:
    """Raise DamagedFileError unless the files of the teacher and of the front are those that were measured.

    Other files are not read by a run; `verify` checks all of them.
    """
    if teacher is None:
        return
    teacher_path(folder)
    members = {point.trial for point in make_front(parts.spec, folder.chance(), teacher, records).members}
    for record in records:
        if record.trial in members:
            model_path(folder, record)


def _announce(parts: StudyParts, folder: RunFolder, records: Sequence[Record], total: int, reporter: Reporter) -> None:
    reporter.say(f"study {parts.spec.name}: {total} trials on {parts.device}, in {folder.root}")
    if parts.target.settings.conditions:
        reporter.say(f"latency of the study: {parts.target.settings.conditions}")
    for name, device in parts.named.devices.items():
        reporter.say(f"device {name}: {device.name}, {device.settings.conditions or ONE_SAMPLE}")
    warning = SAMPLERS[parts.spec.search.sampler].warning
    if warning is not None:
        reporter.say(f"warning: {warning}")
    reporter.begin(len(records), total)


def _search(progress: Progress, hosts: Hosts, teacher: Teacher, *, workers: int, storage: str | None) -> None:
    """Try candidates until the total is reached, in this process or in several worker processes."""
    parts, reporter, records = progress.parts, progress.reporter, progress.records
    if reads_answers(parts):
        _ = teacher.answer_source  # before the first trial: they may be refused, and the workers find them in the cache
    clock = Clock(before=max((record.finished_s for record in records), default=0.0), started=time.monotonic())
    if workers <= 1:
        trials = Trials(
            parts=parts,
            context=make_context(parts, teacher),
            hosts=hosts,
            reporter=reporter,
            total=progress.total,
            clock=clock,
            records=list(records),
            finished=progress.add,
        )
        search(trials)
        return
    reporter.say(f"{workers} workers, one thread each; all pause while one of them measures a latency")
    task = WorkerTask(
        file=parts.file,
        folder=progress.folder,
        run_id=hosts.run_id,
        storage=storage,
        shared=None if hosts.shared is None else hosts.shared.place,
        total=progress.total,
        clock=clock,
        data=parts.dataset.fingerprint,
    )

    def is_complete() -> bool:
        progress.take_in(hosts)
        return len(progress.records) >= progress.total

    try:
        with Workers(workers, task, reporter) as running:
            running.watch(is_complete)
    finally:
        hosts.settle_cut(parts.spec, task=parts.dataset.task, died=False)
