"""Run a study to its total of trials; the same call goes on after any stop."""

from __future__ import annotations

import uuid
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from optuna.storages import BaseStorage

from nas_compress.config.study_file import StudyFile, read_study
from nas_compress.errors import RequestError
from nas_compress.runs.folder import RunFolder, require_free
from nas_compress.runs.front import Front
from nas_compress.runs.records import read_baseline, read_records
from nas_compress.search.loop import Search
from nas_compress.search.preflight.feasibility import draw_candidates, refuse_out_of_reach, within_reach
from nas_compress.search.preflight.warnings import notes
from nas_compress.search.progress import Tally
from nas_compress.search.remeasure import distrust, time_teacher_again
from nas_compress.search.reporter import Logged, Reporter, Silence
from nas_compress.search.samplers.table import SAMPLERS
from nas_compress.search.setup import (
    Ingredients,
    baseline,
    check_own_teacher,
    find_teacher,
    gather,
    make_context,
    versions,
)
from nas_compress.search.start_points import queue_start_points
from nas_compress.search.storage.hosts import Joint
from nas_compress.search.storage.optuna_storage import (
    known_errors,
    open_study,
    opened_storage,
    require_same_storage,
    shown_url,
    study_identity,
)
from nas_compress.search.storage.recovery import require_same_trials, settle_cut_trials
from nas_compress.search.storage.shared_files import SharedStore, open_shared
from nas_compress.search.trials import Trials
from nas_compress.search.workers.pool import Crew
from nas_compress.tasks.task import task_chance
from nas_compress.values.metrics import METRICS, in_words
from nas_compress.values.outcome import Measured


def run_study(
    study: StudyFile | str | Path,
    *,
    out: Path | None = None,
    trials: int | None = None,
    storage: str | None = None,
    shared: str | Path | None = None,
    workers: int = 1,
    reporter: Reporter | None = None,
) -> Front:
    """Run a study to its total of `trials` and return its front; what was finished before is not repeated.

    study: a study.toml, its folder, a built-in name, or one that `read_study` gave. out: the run folder, by default
    `runs/<study name>`. storage: the URL of a database instead of the journal in the run folder; the same call on other
    hosts, each with a run folder of its own, joins the study. shared: a folder that all of them see, or
    `s3://bucket/prefix`, through which they get each other's files. workers: processes that train at the same time, one
    thread each; one trains here.
    Raises RequestError before anything is written where the request is wrong, and RunError where the run cannot go on.

    >>> front = run_study("mine", trials=1)
    >>> [point.trial for point in front.members]
    [0]
    """
    if trials is not None and trials < 1:
        raise RequestError(f"trials >= 1 must hold, but got trials={trials}")
    if workers < 1:
        raise RequestError(f"workers >= 1 must hold, but got workers={workers}")
    if shared is not None and storage is None:
        raise RequestError(f"--shared needs --storage, which several hosts can join, but got --shared {shared} alone")
    store = None if shared is None else open_shared(shared)
    file = named_apart(study if isinstance(study, StudyFile) else read_study(study))
    reporter = reporter or Silence()
    folder = RunFolder(root=(out or default_folder(file)).absolute())
    require_free(folder.root)
    parts = gather(file)
    check_own_teacher(parts)
    if folder.marker.is_file():
        require_same_storage(folder, storage)
    else:
        sized, _ = draw_candidates(parts)
        candidates = [item.candidate for item in sized]
        for note in notes(candidates, classes=parts.dataset.task.classes, target=parts.target):
            reporter.say(note)
        refuse_out_of_reach(parts, within_reach(parts, sized))
    total = trials or (1 if file.candidate else file.spec.trials)
    with folder.locked(), known_errors(), opened_storage(storage, folder.journal) as backend:
        reporter = Logged(reporter, folder.log)
        folder.tidy()
        if storage is None:
            _take_over(folder, parts, reporter)
        search = _open(parts, folder, backend, shown_url(storage), total, reporter)
        tally = search.tally
        queue_start_points(search.trials.study, parts)
        known = read_baseline(folder)
        if known is not None and len(tally.records) >= total:
            tally.teacher = known
            reporter.say(f"nothing to do: {len(tally.records)} trials are finished, the total asked for is {total}")
        else:
            reporter.say(f"study {parts.spec.name}: {total} trials on {parts.device}, in {folder.root}")
            warning = SAMPLERS[parts.spec.search.sampler].warning
            if warning is not None:
                reporter.say(f"warning: {warning}")
            reporter.begin(len(tally.records), total)
            _prepare(search)
        if storage is not None:
            tally.joint = _join(search.trials, store)
        left = min(workers, total - len(tally.records))
        crew = _hire(search, left) if left > 1 else None
        try:
            with tally.joint.beating() if tally.joint is not None else nullcontext():
                search.run(crew)
        finally:
            if crew is not None:
                crew.close()
    return search.tally.front


def named_apart(file: StudyFile) -> StudyFile:
    """A study of one exported candidate under a name of its own: it must not go on with the study that found it."""
    if file.candidate is None:
        return file
    ending = f"-{file.candidate.fingerprint[:8]}"
    name = file.spec.name.removesuffix(ending) + ending
    return replace(file, spec=file.spec.model_copy(update={"name": name}))


def default_folder(file: StudyFile) -> Path:
    """Where a study runs unless `out` says otherwise, relative to the working folder."""
    return Path("runs") / named_apart(file).spec.name


def _open(
    parts: Ingredients, folder: RunFolder, storage: BaseStorage, url: str | None, total: int, reporter: Reporter
) -> Search:
    identity = study_identity(
        parts.spec, space_hash=parts.space.source_hash, data_fingerprint=parts.dataset.fingerprint
    )
    study = open_study(storage, parts.spec, identity)
    require_same_trials(study, folder)
    known = folder.about() if folder.marker.is_file() else {"run": uuid.uuid4().hex}
    planned = max(total, len(read_records(folder)))
    folder.start(
        {
            "run": known["run"],
            "study": parts.spec.model_dump(mode="json") | {"trials": planned},
            "study_folder": str(parts.file.folder),
            "classes": parts.dataset.task.classes,
            "chance": task_chance(parts.dataset.task),
            "space": {"name": parts.space.name, "hash": parts.space.source_hash},
            "storage": url,
            "versions": versions(),
            "machine": parts.target.describe(),
        }
    )
    repeated = settle_cut_trials(
        study, folder, parts.spec, run=known["run"], alone=url is None, classes=parts.dataset.task.classes
    )
    records = read_records(folder)
    if records or repeated:
        cut = f"; a trial that was cut is repeated: {repeated}" if repeated else ""
        reporter.say(f"going on after {len(records)} finished trials{cut}")
    tally = Tally(parts=parts, folder=folder, reporter=reporter, total=total, records=records)
    return Search(trials=Trials(study=study, run_id=known["run"], tally=tally))


def _take_over(folder: RunFolder, parts: Ingredients, reporter: Reporter) -> None:
    """Where the folder was begun on another machine: its latencies do not compare with those measured from now on."""
    target, about = parts.target, folder.about() if folder.marker.is_file() else {}
    before = about.get("machine", {})
    if before.get("key", target.fingerprint) == target.fingerprint:
        return
    reporter.say(
        f"the run was begun on another machine ({before.get('cpu')}) or with another onnxruntime: "
        "latencies on its front are measured again here"
    )
    distrust(folder, read_records(folder))
    time_teacher_again(folder, target, sizes=parts.sizes)
    folder.start({**about, "machine": target.describe()})


def _join(trials: Trials, shared: SharedStore | None) -> Joint:
    """Take part in a study on a database, which other hosts may have begun."""
    target = trials.tally.parts.target
    joint = Joint(
        study=trials.study,
        folder=trials.folder,
        run_id=trials.run_id,
        machine=target.fingerprint,
        shared=shared,
    )
    if not joint.counts:
        trials.tally.reporter.say(
            "warning: the study's latencies are those of the machine that began it, which measures this one's "
            f"({target.summary}) front members again; the front in this folder is provisional"
        )
    return joint


def _prepare(search: Search) -> None:
    """The teacher and its figures, and the context of the trials."""
    tally = search.tally
    teacher = find_teacher(tally.parts, tally.reporter.stage)
    tally.teacher = baseline(tally.folder, teacher, tally.parts.dataset, tally.parts.target)
    tally.reporter.say(_teacher_line(tally.teacher))
    search.trials.context = make_context(tally.parts, teacher)


def _hire(search: Search, count: int) -> Crew:
    """Workers, which find the teacher and its answers in the cache."""
    if search.trials.context is not None:
        _ = search.trials.context.teacher.answers
    reporter = search.tally.reporter
    reporter.say(f"{count} workers, which hold still while one of them measures a latency")
    return Crew(
        count,
        search.tally.parts.file,
        lambda worker, number, done, epochs: reporter.stage(f"worker {worker}, trial {number}", done, epochs),
    )


def _teacher_line(measured: Measured) -> str:
    return f"teacher: {in_words(measured.figures, METRICS)}"
