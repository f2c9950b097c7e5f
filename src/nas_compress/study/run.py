"""Run a study: ask, try, tell, until the total of trials is reached; the same call goes on after any stop."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import optuna

from nas_compress.candidate import Candidate
from nas_compress.files import write_json
from nas_compress.front import Front
from nas_compress.measurement.latency import LatencyMeter
from nas_compress.measurement.machine import describe_machine
from nas_compress.outcome import Measured, Outcome
from nas_compress.runs.folder import RunFolder, require_free
from nas_compress.runs.records import Record, read_records, write_record
from nas_compress.runs.results import make_front, write_front, write_history
from nas_compress.space.suggest import Suggest
from nas_compress.spec.study_file import StudyFile, read_study
from nas_compress.study.feasibility import draw_candidates, require_feasible
from nas_compress.study.reporter import Reporter, Silence
from nas_compress.study.resume import RUN, constraints, give_up, settle_cut_trials, tell
from nas_compress.study.samplers import make_sampler
from nas_compress.study.storage import open_storage, open_study, study_identity
from nas_compress.study.workbench import Ingredients, baseline, find_teacher, gather, make_bench, versions
from nas_compress.trial.bench import Bench
from nas_compress.trial.run import run_trial


def run_study(
    study: StudyFile | str | Path,
    *,
    out: Path | None = None,
    trials: int | None = None,
    storage: str | None = None,
    reporter: Reporter | None = None,
) -> Front:
    """Run a study to its total of `trials` and return its front; what was finished before is not repeated.

    study: a study.toml, its folder, a built-in name, or one that `read_study` gave. out: the run folder, by default
    `runs/<study name>`. storage: the URL of a database instead of the journal in the run folder. Raises RequestError
    before anything is written where the request is wrong, and RunError where the run cannot go on.
    """
    file = study if isinstance(study, StudyFile) else read_study(study)
    reporter = reporter or Silence()
    total = trials or (1 if file.candidate else file.spec.trials)
    folder = RunFolder(root=(out or Path("runs") / file.spec.name).absolute())
    require_free(folder.root)
    parts = gather(file)
    meter = LatencyMeter()
    if not folder.marker.is_file():
        sized, _ = draw_candidates(parts)
        require_feasible(parts, sized, meter)
    with folder.locked():
        search = _open(parts, folder, storage, reporter)
        teacher = find_teacher(parts, reporter.stage)
        search.teacher = baseline(folder, teacher, parts.dataset, meter)
        reporter.say(_teacher_line(search.teacher))
        search.bench = make_bench(parts, teacher, meter)
        search.run(total)
    return search.front


def _open(parts: Ingredients, folder: RunFolder, url: str | None, reporter: Reporter) -> Search:
    identity = study_identity(
        parts.spec, space_hash=parts.space.source_hash, data_fingerprint=parts.dataset.fingerprint
    )
    study = open_study(open_storage(url, folder.journal), parts.spec, identity)
    known = folder.about() if folder.marker.is_file() else {"run": uuid.uuid4().hex}
    folder.start(
        {
            "run": known["run"],
            "study": parts.spec.model_dump(mode="json"),
            "study_folder": str(parts.file.folder),
            "classes": parts.dataset.classes,
            "space": {"name": parts.space.name, "hash": parts.space.source_hash},
            "storage": url,
            "versions": versions(),
            "machine": vars(describe_machine()),
        }
    )
    records = read_records(folder)
    search = Search(parts=parts, folder=folder, study=study, run_id=known["run"], reporter=reporter, records=records)
    repeated = settle_cut_trials(
        study, folder, parts.spec.objective_list, run=search.run_id, classes=parts.dataset.classes
    )
    search.records = read_records(folder)
    if search.records or repeated:
        reporter.say(f"going on after {len(search.records)} finished trials, {repeated} cut one(s) to be repeated")
    return search


@dataclass(kw_only=True, eq=False)
class Search:
    """A study while it runs."""

    parts: Ingredients
    folder: RunFolder
    study: optuna.Study
    run_id: str
    reporter: Reporter
    records: list[Record]
    teacher: Measured | None = None
    bench: Bench | None = None
    started: float = field(default_factory=time.monotonic)

    @property
    def front(self) -> Front:
        """The front of all finished trials."""
        return make_front(self.parts.spec, self.parts.dataset.classes, self.teacher, self.records)

    def run(self, total: int) -> None:
        """Try candidates until `total` trials are finished."""
        before = max((record.finished_s for record in self.records), default=0.0)
        self._write(self.front)
        while len(self.records) < total:
            members = [point.trial for point in self.front.members]
            record = self._next(before)
            self.records.append(record)
            front = self.front
            if [point.trial for point in front.members] != members:
                self._write(front)
            self.reporter.trial(record, front, len(self.records), total)
        write_history(self.folder, self.front, self.records, self.parts.spec.name)

    def _next(self, before: float) -> Record:
        spec = self.parts.spec
        # one seed a trial: a study that was stopped and goes on proposes what it would have proposed
        seed = spec.seed * 1_000_003 + len(self.records)
        self.study.sampler = make_sampler(spec.search.sampler, seed=seed, startup_trials=spec.search.startup_trials)
        trial = self.study.ask()
        try:
            trial.set_user_attr(RUN, self.run_id)
            candidate = self.parts.space.suggest(cast(Suggest, trial))
            outcome, model, repeats = self._try(trial.number, candidate)
            record = Record(
                trial=trial.number,
                params=dict(trial.params),
                outcome=outcome,
                finished_s=before + time.monotonic() - self.started,
                model=model,
                repeats=repeats,
            )
            self._tell(trial, record)
        except BaseException:
            frozen = self.study.trials[trial.number]
            if not frozen.state.is_finished():
                give_up(self.study, frozen)
            raise
        return record

    def _try(self, number: int, candidate: Candidate) -> tuple[Outcome, str, int | None]:
        for record in self.records:
            if record.outcome.candidate == candidate and record.outcome.state != "failed":
                return (
                    record.outcome,
                    record.model,
                    record.trial if record.repeats is None else record.repeats,
                )
        if self.bench is None:
            raise RuntimeError("the bench is made before the first trial")
        place = self.folder.trial(number)
        write_json(place / "candidate.json", candidate.to_dict())
        outcome = run_trial(
            candidate,
            self.bench,
            seed=self.parts.spec.seed,
            model=place / "model.onnx",
            on_epoch=lambda done, count: self.reporter.stage(f"trial {number}", done, count),
        )
        return outcome, f"trials/{number}/model.onnx", None

    def _tell(self, trial: optuna.Trial, record: Record) -> None:
        # constraints and attributes first: once the record is on disk, a restart only needs to tell the values
        spec, classes = self.parts.spec, self.parts.dataset.classes
        for name, violation in constraints(record.outcome, spec.budget_list, classes=classes):
            trial.set_constraint(name, violation)
        for name, value in _attributes(record).items():
            trial.set_user_attr(name, value)
        write_record(self.folder, record)
        tell(self.study, record, spec.objective_list, classes=classes)

    def _write(self, front: Front) -> None:
        write_front(self.folder, front, self.parts.spec.name)


def _attributes(record: Record) -> dict[str, Any]:
    outcome = record.outcome.to_dict()
    return {
        **{name: outcome[name] for name in ("state", "reason", "seed", "epochs", "candidate", "measured", "seconds")},
        "model": record.model,
        "repeats": record.repeats,
    }


def _teacher_line(measured: Measured) -> str:
    return (
        f"teacher: accuracy {measured.accuracy or 0:.2%} (validation), {measured.latency_ms:.3f} ms, "
        f"{measured.size_bytes:,} bytes, {measured.parameters:,} parameters"
    )
