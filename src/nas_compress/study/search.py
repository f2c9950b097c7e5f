"""The search itself: ask, try, tell, until the total of trials is reached."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import optuna

from nas_compress.candidate import Candidate
from nas_compress.files import write_json
from nas_compress.front import Front
from nas_compress.measurement.latency import LatencyMeter
from nas_compress.outcome import Measured, Outcome
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import Record, write_record
from nas_compress.runs.results import draw_front, make_front, write_front, write_history
from nas_compress.runs.savings import savings
from nas_compress.space.suggest import Suggest
from nas_compress.stopping.rules import Rule
from nas_compress.study.remeasure import amend, measure_again, noisy_members
from nas_compress.study.reporter import Reporter
from nas_compress.study.resume import RUN, constraints, give_up, tell
from nas_compress.study.samplers import sampler_for
from nas_compress.study.stopping import TrialJudge, study_rule
from nas_compress.study.workbench import Ingredients
from nas_compress.trial.bench import Bench
from nas_compress.trial.run import run_trial

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

    def run(self, total: int, meter: LatencyMeter) -> None:
        """Try candidates until `total` trials are finished; then measure the front's noisy latencies again."""
        before = max((record.finished_s for record in self.records), default=0.0)
        self._write(self.front)
        while len(self.records) < total:
            members = self._members()
            record = self._next(before)
            self.records.append(record)
            front = self.front
            if [point.trial for point in front.members] != members:
                self._write(front, sparing=True)
            self.reporter.trial(record, front, len(self.records), total)
        self._measure_again(meter)
        self._write(self.front)
        write_history(self.folder, self.front, self.records, self.parts.spec.name)

    def _next(self, before: float) -> Record:
        spec = self.parts.spec
        self.study.sampler = sampler_for(
            spec.search.sampler,
            seed=spec.seed,
            finished=len(self.records),
            startup_trials=spec.search.startup_trials,
        )
        trial = self.study.ask()
        try:
            trial.set_user_attr(RUN, self.run_id)
            candidate = self.parts.space.suggest(cast(Suggest, trial))
            outcome, model, repeats = self._try(trial, candidate)
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
                give_up(self.study, frozen, self.folder)
            raise
        return record

    def _try(self, trial: optuna.Trial, candidate: Candidate) -> tuple[Outcome, str, int | None]:
        for record in self.records:
            if record.outcome.candidate == candidate and record.outcome.state != "failed":
                return (
                    record.outcome,
                    record.model,
                    record.trial if record.repeats is None else record.repeats,
                )
        if self.bench is None:
            raise RuntimeError("the bench is made before the first trial")
        spec, place = self.parts.spec, self.folder.trial(trial.number)
        write_json(place / "candidate.json", candidate.to_dict())
        outcome = run_trial(
            candidate,
            self.bench,
            seed=spec.seed,
            model=place / "model.onnx",
            on_epoch=lambda done, count: self.reporter.stage(f"trial {trial.number}", done, count),
            judge=TrialJudge(trial=trial, rule=self.rule, objectives=spec.objective_list),
            shadow=spec.search.stop == "shadow",
        )
        return outcome, f"trials/{trial.number}/model.onnx" if outcome.state == "trained" else "", None

    def _tell(self, trial: optuna.Trial, record: Record) -> None:
        # constraints and attributes first: once the record is on disk, a restart only needs to tell the values
        spec, classes = self.parts.spec, self.parts.dataset.classes
        for name, violation in constraints(record.outcome, spec.budget_list, classes=classes):
            trial.set_constraint(name, violation)
        for name, value in _attributes(record).items():
            trial.set_user_attr(name, value)
        write_record(self.folder, record)
        tell(self.study, record, spec.objective_list, classes=classes)

    def _measure_again(self, meter: LatencyMeter) -> None:
        tried: set[int] = set()
        while noisy := [r for r in noisy_members(self.records, self._members()) if r.trial not in tried]:
            self.reporter.say(f"measuring latencies of the front again that were taken in slow moments: {len(noisy)}")
            tried.update(record.trial for record in noisy)
            steady = measure_again(self.folder, noisy, meter, self.parts.spec.budget_list)
            self.records = amend(self.folder, self.records, steady)

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
