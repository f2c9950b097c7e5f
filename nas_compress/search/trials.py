"""A trial from its proposal to its record: what the study is asked, and what it is told."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from nas_compress.config.schema import PRUNERS
from nas_compress.config.suggest import Suggest
from nas_compress.files import write_json
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import Record, write_record
from nas_compress.search.progress import Tally
from nas_compress.search.samplers.cost_lookup import Look
from nas_compress.search.samplers.table import make_sampler, proposal_context
from nas_compress.search.setup import Ingredients
from nas_compress.search.start_points import is_double
from nas_compress.search.stopping_rule import make_stopper, study_rule
from nas_compress.search.storage.recovery import RUN, constraints, deadly, remove_trial, settle_cut, tell
from nas_compress.search.workers.pool import Job
from nas_compress.search.workers.process import Task
from nas_compress.stopping.rules import Overruled, Rule
from nas_compress.trial.context import TrialContext
from nas_compress.trial.validity import check_candidate
from nas_compress.values.candidate import Candidate
from nas_compress.values.outcome import Outcome

ATTRIBUTES = ("state", "reason", "seed", "epochs", "planned_epochs", "candidate", "measured", "seconds")
"""What the study's storage keeps of an outcome."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came of a candidate; `repeats` is the earlier trial that answered for it, `model` its file's path."""

    outcome: Outcome
    model: str
    repeats: int | None = None


@dataclass(kw_only=True, eq=False)
class Trials:
    """The trials that this run asks for; `context` is there before the first of them."""

    study: optuna.Study
    run_id: str
    tally: Tally
    context: TrialContext | None = None
    _before: float = field(init=False)
    _started: float = field(default_factory=time.monotonic, init=False)

    def __post_init__(self) -> None:
        self._before = max((record.finished_s for record in self.tally.records), default=0.0)

    @property
    def parts(self) -> Ingredients:
        """What the study is made of."""
        return self.tally.parts

    @property
    def folder(self) -> RunFolder:
        """The run folder."""
        return self.tally.folder

    @cached_property
    def rule(self) -> Rule:
        """The stopping rule."""
        return study_rule(self.parts.spec)

    @cached_property
    def _look(self) -> Look | None:
        """Candidates' costs before training; None where this machine's latencies do not count, or nothing is told."""
        joint = self.tally.joint
        if self.context is None or (joint is not None and not joint.counts):
            return None
        look = Look(spec=self.parts.spec, context=self.context)
        return look if look.tells else None

    def propose(self, in_flight: int) -> tuple[optuna.Trial, Candidate]:
        """Ask for a candidate, beside `in_flight` others of this run."""
        spec, joint = self.parts.spec, self.tally.joint
        context = proposal_context(
            study_seed=spec.seed if joint is None else joint.seed(spec.seed),
            finished=len(self.tally.records) + in_flight,
            startup_trials=spec.search.startup_trials,
            space=self.parts.space.suggest,
            costs=self._look,
        )
        self.study.sampler = make_sampler(spec.search.sampler, context)
        trial = self.study.ask()
        while is_double(self.study, trial):
            self.study.tell(trial, state=TrialState.FAIL)
            trial = self.study.ask()
        try:
            trial.set_user_attr(RUN, self.run_id)
            candidate = self.parts.space.suggest(cast(Suggest, trial))
            check_candidate(candidate)
            return trial, candidate
        except BaseException:
            self.give_back(trial)
            raise

    def give_back(self, trial: optuna.Trial) -> None:
        """Give up a trial that has no outcome, so that it is repeated; one whose record is written is told."""
        frozen, spec = self.study.trials[trial.number], self.parts.spec
        if not frozen.state.is_finished():
            settle_cut(self.study, frozen, self.folder, spec, classes=self.parts.dataset.task.classes, died=False)

    def answer(self, trial: optuna.Trial, candidate: Candidate) -> Answer | None:
        """What is known of a trial before it is tried: its candidate's record, or that it kills whoever tries it.

        A candidate that the stopping rule ended is trained again, one that a pruner ended is not.
        """
        unknown = ("failed",) if self.parts.spec.search.stop in PRUNERS else ("failed", "stopped")
        for record in self._earlier(candidate):
            if record.outcome.state not in unknown:
                first = record.trial if record.repeats is None else record.repeats
                return Answer(outcome=record.outcome, model=record.model, repeats=first)
        reason, seed = deadly(trial), self.parts.spec.seed
        if reason is None:
            return None
        return Answer(outcome=Outcome(candidate=candidate, seed=seed, state="failed", reason=reason), model="")

    def job(self, trial: optuna.Trial, candidate: Candidate) -> Job:
        """What is needed to try the candidate; a rule is overruled where the sampler comes back to what it stopped."""
        place = self.folder.trial(trial.number)
        write_json(place / "candidate.json", candidate.to_dict())
        stopped = any(record.outcome.state == "stopped" for record in self._earlier(candidate))
        rule = Overruled(rule=self.rule) if stopped else self.rule
        return Job(
            task=Task(
                number=trial.number,
                candidate=candidate,
                model=place / self.parts.spec.file_name,
                checkpoint=self.folder.checkpoint(candidate),
            ),
            stopper=make_stopper(trial, self.parts.spec, rule),
        )

    def tried(self, trial: optuna.Trial, outcome: Outcome) -> Answer:
        """The answer of a candidate that was tried; it left a file if it was trained to its end."""
        model = f"trials/{trial.number}/{self.parts.spec.file_name}" if outcome.state == "trained" else ""
        return Answer(outcome=outcome, model=model)

    def settle(self, trial: optuna.Trial, answer: Answer) -> None:
        """Record a trial, tell the study, and count it, unless another run gave it up, which took this one for dead."""
        record = Record(
            trial=trial.number,
            params=dict(trial.params),
            outcome=answer.outcome,
            finished_s=self._before + time.monotonic() - self._started,
            model=answer.model,
            repeats=answer.repeats,
        )
        try:
            self._tell(trial, record)
        except (UpdateFinishedTrialError, ValueError):
            if self.tally.joint is None or not self.tally.joint.gave_up(trial.number):
                raise
            self.tally.reporter.say(
                f"another run repeats trial {trial.number}, for this one gave no sign of life for long"
            )
            remove_trial(self.folder, trial.number)
        else:
            self.tally.add(record)

    def _earlier(self, candidate: Candidate) -> Iterator[Record]:
        return (record for record in self.tally.records if record.outcome.candidate == candidate)

    def _tell(self, trial: optuna.Trial, record: Record) -> None:
        # constraints and attributes first: once the record is on disk, a restart only needs to tell the values
        spec, classes = self.parts.spec, self.parts.dataset.task.classes
        for name, violation in constraints(record.outcome, spec.budget_list, classes=classes):
            trial.set_constraint(name, violation)
        for name, value in _attributes(record).items():
            trial.set_user_attr(name, value)
        if self.tally.joint is not None:
            self.tally.joint.share(trial, record)
        write_record(self.folder, record)
        self.folder.checkpoint(record.outcome.candidate).unlink(missing_ok=True)
        tell(self.study, record, spec, classes=classes)


def _attributes(record: Record) -> dict[str, Any]:
    outcome = record.outcome.to_dict()
    return {name: outcome[name] for name in ATTRIBUTES} | {"model": record.model, "repeats": record.repeats}
