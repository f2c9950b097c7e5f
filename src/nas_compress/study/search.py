"""The search itself: ask, try, tell, until the total of trials is reached."""

from __future__ import annotations

import math
import shutil
import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import optuna
from optuna.exceptions import UpdateFinishedTrialError

from nas_compress.candidate import Candidate
from nas_compress.deployment import calibration_samples
from nas_compress.files import write_json
from nas_compress.front import Front
from nas_compress.measurement.latency import LatencyMeter
from nas_compress.outcome import Measured, Outcome
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import Record, write_record
from nas_compress.runs.results import draw_front, make_front, write_front, write_history
from nas_compress.runs.savings import savings
from nas_compress.runs.speed import speed_notes
from nas_compress.space.suggest import Suggest
from nas_compress.spec.schema import PRUNERS
from nas_compress.stopping.rules import Overruled, Rule
from nas_compress.study.crew import Crew, Job
from nas_compress.study.float32_form import compare_with_float32, uncompared_members
from nas_compress.study.joint import Joint
from nas_compress.study.remeasure import amend, measure_again, noisy_members
from nas_compress.study.reporter import Reporter
from nas_compress.study.resume import RUN, constraints, deadly, give_up, remove_trial, tell
from nas_compress.study.samplers import sampler_for
from nas_compress.study.stopping import make_judge, study_pruner, study_rule
from nas_compress.study.workbench import Ingredients
from nas_compress.study.worker import Task
from nas_compress.trial.bench import Bench
from nas_compress.trial.run import run_trial

LOOK_EVERY_S = 0.5
"""How often a run that waits for others looks."""

DRAW_EVERY_S = 30.0
"""How old front.png may be while trials run; front.csv and front.json are never behind."""


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
    joint: Joint | None = None
    started: float = field(default_factory=time.monotonic)
    _drawn: float = -math.inf

    @cached_property
    def rule(self) -> Rule:
        """The stopping rule."""
        return study_rule(self.parts.spec)

    @property
    def front(self) -> Front:
        """The front of all finished trials."""
        return make_front(self.parts.spec, self.parts.dataset.classes, self.teacher, self.records)

    def run(self, total: int, meter: LatencyMeter, crew: Crew | None = None) -> None:
        """Try candidates until `total` trials are finished; then measure the front's noisy latencies again.

        A crew tries several at once, which hold still while one of them measures.
        """
        self.study.pruner = study_pruner(self.parts.spec)
        before = max((record.finished_s for record in self.records), default=0.0)
        self._write(self.front)
        if crew is None:
            while (places := self._places(total)) is not None:
                if places <= 0:
                    self._patience()
                else:
                    self._take(self._next(before, total), total)
        else:
            self._share(crew, total, before)
        shutil.rmtree(self.folder.checkpoints, ignore_errors=True)
        self._measure_again(meter)
        self._compare(meter)
        self._write(self.front)
        write_history(self.folder, self.front, self.records, self.parts.spec.name)

    def _take(self, record: Record | None, total: int) -> None:
        """Add a finished trial, if it is one, and write the front where it changed."""
        if record is None:
            return
        members = self._members()
        self.records.append(record)
        front = self.front
        if [point.trial for point in front.members] != members:
            self._write(front, sparing=True)
        self.reporter.trial(record, front, len(self.records), total)

    def _places(self, total: int) -> int | None:
        """How many trials this run may begin beside its own; None where the total is reached.

        What other runs of the study finished since the last look is taken in first.
        """
        if self.joint is not None:
            for record in self.joint.news({record.trial for record in self.records}):
                self._take(record, total)
        left = total - len(self.records)
        if left <= 0:
            return None
        return left if self.joint is None else left - len(self.joint.in_flight())

    def _patience(self) -> None:
        """Wait for the trials of other runs, and repeat those of dead ones."""
        if self.joint is not None and self.joint.bury():
            self.reporter.say("another run died; its trials are repeated")
        time.sleep(LOOK_EVERY_S)

    def _next(self, before: float, total: int) -> Record | None:
        trial, candidate = self._propose(0)
        try:
            if self._is_surplus(trial, 0, total):
                self._give_back(trial)
                return None
            outcome, model, repeats = self._answer(trial, candidate) or self._try(trial, candidate)
            return self._settle(trial, outcome, model, repeats, before)
        except BaseException:
            self._give_back(trial)
            raise

    def _is_surplus(self, trial: optuna.Trial, own: int, total: int) -> bool:
        """Whether other runs asked for the last trials at the same time; `own` others are under way here."""
        if self.joint is None:
            return False
        self._places(total)
        return own + self.joint.earlier(trial.number) >= total - len(self.records)

    def _share(self, crew: Crew, total: int, before: float) -> None:
        """Keep the crew busy; a candidate that one of them tries already waits for its outcome."""
        running: dict[int, optuna.Trial] = {}
        waiting: list[tuple[optuna.Trial, Candidate]] = []
        try:
            while (places := self._places(total)) is not None:
                while crew.idle and len(running) + len(waiting) < (self._places(total) or 0):
                    trial, candidate = self._propose(len(running) + len(waiting))
                    if self._is_surplus(trial, len(running) + len(waiting), total):
                        self._give_back(trial)
                        break
                    waiting.append((trial, candidate))
                    waiting = self._begin(crew, running, waiting, total, before)
                if running:
                    job, outcome = crew.next_end()
                    trial = running[job.task.number]
                    self._take(self._settle(trial, outcome, self._model(trial, outcome), None, before), total)
                    del running[trial.number]
                elif places <= 0:
                    self._patience()
                waiting = self._begin(crew, running, waiting, total, before)
        except BaseException:
            crew.close()
            for trial in [*running.values(), *(trial for trial, _ in waiting)]:
                self._give_back(trial)
            raise

    def _begin(
        self,
        crew: Crew,
        running: dict[int, optuna.Trial],
        waiting: list[tuple[optuna.Trial, Candidate]],
        total: int,
        before: float,
    ) -> list[tuple[optuna.Trial, Candidate]]:
        """Answer or begin what waits; return what still has to wait."""
        left = []
        for trial, candidate in waiting:
            answer = self._answer(trial, candidate)
            if answer is not None:
                self._take(self._settle(trial, *answer, before), total)
            elif not crew.idle or candidate in crew.candidates:
                left.append((trial, candidate))
            else:
                crew.give(self._job(trial, candidate))
                running[trial.number] = trial
        return left

    def _model(self, trial: optuna.Trial, outcome: Outcome) -> str:
        """The path of a trial's file in the run folder; empty where it left none."""
        return f"trials/{trial.number}/{self.parts.spec.file_name}" if outcome.state == "trained" else ""

    def _job(self, trial: optuna.Trial, candidate: Candidate) -> Job:
        place = self.folder.trial(trial.number)
        write_json(place / "candidate.json", candidate.to_dict())
        return Job(
            task=Task(
                number=trial.number,
                candidate=candidate,
                model=place / self.parts.spec.file_name,
                checkpoint=self.folder.checkpoint(candidate),
            ),
            judge=make_judge(trial, self.parts.spec, self._rule_for(candidate)),
        )

    def _rule_for(self, candidate: Candidate) -> Rule:
        """The stopping rule, overruled where the sampler comes back to a candidate that it stopped."""
        again = any(
            record.outcome.candidate == candidate for record in self.records if record.outcome.state == "stopped"
        )
        return Overruled(rule=self.rule) if again else self.rule

    def _propose(self, in_flight: int) -> tuple[optuna.Trial, Candidate]:
        spec = self.parts.spec
        self.study.sampler = sampler_for(
            spec.search.sampler,
            seed=spec.seed if self.joint is None else self.joint.seed(spec.seed),
            finished=len(self.records) + in_flight,
            startup_trials=spec.search.startup_trials,
        )
        trial = self.study.ask()
        try:
            trial.set_user_attr(RUN, self.run_id)
            return trial, self.parts.space.suggest(cast(Suggest, trial))
        except BaseException:
            self._give_back(trial)
            raise

    def _give_back(self, trial: optuna.Trial) -> None:
        frozen = self.study.trials[trial.number]
        if not frozen.state.is_finished():
            give_up(self.study, frozen, self.folder)

    def _settle(
        self, trial: optuna.Trial, outcome: Outcome, model: str, repeats: int | None, before: float
    ) -> Record | None:
        """Record and tell a trial; None where another run gave it up, which took this one for dead."""
        record = Record(
            trial=trial.number,
            params=dict(trial.params),
            outcome=outcome,
            finished_s=before + time.monotonic() - self.started,
            model=model,
            repeats=repeats,
        )
        try:
            self._tell(trial, record)
        except (UpdateFinishedTrialError, ValueError):
            if self.joint is None or not self.joint.gave_up(trial.number):
                raise
            self.reporter.say(f"another run repeats trial {trial.number}, for this one gave no sign of life for long")
            remove_trial(self.folder, trial.number)
            return None
        return record

    def _answer(self, trial: optuna.Trial, candidate: Candidate) -> tuple[Outcome, str, int | None] | None:
        """What is known of a trial before it is tried: its candidate's record, or that it kills whoever tries it."""
        known, reason = self._known(candidate), deadly(trial)
        if known is not None or reason is None:
            return known
        seed = self.parts.spec.seed
        return Outcome(candidate=candidate, seed=seed, state="failed", reason=reason), "", None

    def _known(self, candidate: Candidate) -> tuple[Outcome, str, int | None] | None:
        """What an earlier trial of the same candidate came to; one that the stopping rule ended is trained again."""
        unknown = ("failed",) if self.parts.spec.search.stop in PRUNERS else ("failed", "stopped")
        for record in self.records:
            if record.outcome.candidate == candidate and record.outcome.state not in unknown:
                return (
                    record.outcome,
                    record.model,
                    record.trial if record.repeats is None else record.repeats,
                )
        return None

    def _try(self, trial: optuna.Trial, candidate: Candidate) -> tuple[Outcome, str, int | None]:
        if self.bench is None:
            raise RuntimeError("the bench is made before the first trial")
        job = self._job(trial, candidate)
        self.reporter.stage(f"trial {trial.number}", 0, self.parts.spec.training.epochs)
        outcome = run_trial(
            candidate,
            self.bench,
            seed=self.parts.spec.seed,
            model=job.task.model,
            checkpoint=job.task.checkpoint,
            on_epoch=lambda done, count: self.reporter.stage(f"trial {trial.number}", done, count),
            judge=job.judge,
            shadow=self.parts.spec.search.stop == "shadow",
        )
        return outcome, self._model(trial, outcome), None

    def _tell(self, trial: optuna.Trial, record: Record) -> None:
        # constraints and attributes first: once the record is on disk, a restart only needs to tell the values
        spec, classes = self.parts.spec, self.parts.dataset.classes
        for name, violation in constraints(record.outcome, spec.budget_list, classes=classes):
            trial.set_constraint(name, violation)
        for name, value in _attributes(record).items():
            trial.set_user_attr(name, value)
        if self.joint is not None:
            self.joint.share(trial, record)
        write_record(self.folder, record)
        self.folder.checkpoint(record.outcome.candidate).unlink(missing_ok=True)
        tell(self.study, record, spec, classes=classes)

    def _measure_again(self, meter: LatencyMeter) -> None:
        tried: set[int] = set()
        while noisy := [r for r in noisy_members(self.records, self._members()) if r.trial not in tried]:
            self.reporter.say(f"measuring latencies of the front again that were taken in slow moments: {len(noisy)}")
            tried.update(record.trial for record in noisy)
            steady = measure_again(self.folder, noisy, meter, self.parts.spec.budget_list)
            self.records = amend(self.folder, self.records, steady)

    def _compare(self, meter: LatencyMeter) -> None:
        """Time the float32 form of the front's members, and say which of them are slower."""
        members = self._members()
        parts = self.parts
        compared = compare_with_float32(
            uncompared_members(self.records, members),
            build=parts.build,
            calibration=calibration_samples(parts.dataset.train),
            meter=meter,
        )
        self.records = amend(self.folder, self.records, compared)
        for note, trials in speed_notes(self.records, compared).items():
            self.reporter.say(f"trial {', '.join(map(str, trials))}: {note}")

    def _members(self) -> list[int | str]:
        return [point.trial for point in self.front.members]

    def _write(self, front: Front, *, sparing: bool = False) -> None:
        """Write the front's files; the picture, if sparing, only so often that it costs few seconds."""
        write_front(self.folder, front, savings(self.records, front))
        started = time.monotonic()
        if not sparing or started >= self._drawn + DRAW_EVERY_S:
            draw_front(self.folder, front, self.parts.spec.name)
            self._drawn = started


def _attributes(record: Record) -> dict[str, Any]:
    outcome = record.outcome.to_dict()
    return {
        **{
            name: outcome[name]
            for name in (
                "state",
                "reason",
                "seed",
                "epochs",
                "planned_epochs",
                "candidate",
                "measured",
                "seconds",
            )
        },
        "model": record.model,
        "repeats": record.repeats,
    }
