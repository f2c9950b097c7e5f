"""The trials of one process: propose a candidate, try it, record it and tell the study."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import cast

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from nas_compress.config.schema import StudySpec
from nas_compress.config.search_section import PRUNERS
from nas_compress.config.suggest import Suggest
from nas_compress.errors import RequestError
from nas_compress.runs.checks.model_files import digests_of_trial
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import Record, write_candidate, write_record
from nas_compress.runs.versions import versions
from nas_compress.search.reporter import Reporter
from nas_compress.search.samplers.cost_lookup import CostLookup
from nas_compress.search.samplers.table import make_sampler, proposal_context
from nas_compress.search.setup import StudyParts
from nas_compress.search.start_points import is_double
from nas_compress.search.storage.attribute_names import CANDIDATE
from nas_compress.search.storage.hosts import GRACE_S, Hosts
from nas_compress.search.storage.optuna_trials import attributes, told_of
from nas_compress.search.storage.recovery import deadly, remove_trial, settle_cut, tell
from nas_compress.search.trial_stopper import make_stopper, study_rule
from nas_compress.stopping.rules import Overruled, Rule
from nas_compress.trial.context import TrialContext
from nas_compress.trial.plan import candidate_rules
from nas_compress.trial.run import run_checked_trial
from nas_compress.trial.validity import CandidateRules
from nas_compress.values.candidate import Candidate
from nas_compress.values.outcome import Outcome


@dataclass(frozen=True, kw_only=True)
class Clock:
    """Running time of a study in seconds: `before` this run, and since `started` on `time.monotonic()`.

    All processes of a machine share this clock.
    """

    before: float
    started: float

    def now(self) -> float:
        """Return the seconds until now."""
        return self.before + time.monotonic() - self.started


@dataclass(frozen=True, kw_only=True, eq=False)
class Proposal:
    """A trial of the study and its candidate."""

    trial: optuna.Trial
    candidate: Candidate


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Result of a candidate.

    model: path of its file, relative to the run folder; empty without a file.
    repeats: number of the earlier trial if its outcome is copied.
    files, versions: see `Record`.
    """

    outcome: Outcome
    model: str
    repeats: int | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=versions)


@dataclass(kw_only=True, eq=False)
class Trials:
    """Trials of this process, and the records of all finished trials.

    finished: is called with each record new to this process.
    """

    parts: StudyParts
    context: TrialContext
    hosts: Hosts
    reporter: Reporter
    total: int
    clock: Clock
    records: list[Record]
    finished: Callable[[Record], None]
    _open: list[Proposal] = field(default_factory=list, init=False)

    def is_complete(self) -> bool:
        """Read the trials finished since the last call. Return True if the study has its total."""
        for record in self.hosts.new_records({record.trial for record in self.records}):
            self.records.append(record)
            self.finished(record)
        return self._left <= 0

    def step(self) -> bool:
        """Propose or finish a trial. Return False if there is nothing to do at the moment."""
        proposal = next((each for each in self._open if not self._is_deferred(each)), None) or self._propose()
        if proposal is None:
            return False
        if not self._is_deferred(proposal):
            answer = self._answer(proposal) or self._try(proposal)
            self._settle(proposal.trial, answer)
            self._open.remove(proposal)
        return True

    def give_up(self) -> None:
        """Give up all open trials; they will be repeated. Trials with a written record are finished by it instead."""
        for proposal in self._open:
            self._give_back(proposal.trial)

    @property
    def _spec(self) -> StudySpec:
        return self.parts.spec

    @property
    def _folder(self) -> RunFolder:
        return self.hosts.folder

    @property
    def _left(self) -> int:
        return self.total - len(self.records)

    @cached_property
    def _rule(self) -> Rule:
        return study_rule(self._spec)

    @cached_property
    def _candidate_rules(self) -> CandidateRules:
        return candidate_rules(self.context, seed=self._spec.seed)

    @cached_property
    def _costs(self) -> CostLookup | None:
        """The lookup of costs before training; None if this machine's latencies do not count or it knows nothing."""
        if not self.hosts.counts:
            return None
        lookup = CostLookup(spec=self._spec, context=self.context, rules=self._candidate_rules)
        return lookup if lookup.knows_something else None

    def _propose(self) -> Proposal | None:
        """Ask for a candidate. Return None if the trials in flight reach the total.

        The processes of a run propose one after the other: the total stays exact and each proposal has its own seed.
        """
        with self.hosts.proposing():
            # A trial that finishes between these lines counts twice, which only delays a proposal.
            in_flight = self.hosts.in_flight()
            if self.is_complete() or len(in_flight) >= self._left:
                return None
            trial = self._ask(in_own_run=sum(self.hosts.is_own(each) for each in in_flight))
            try:
                self.hosts.sign(trial)
                if self._is_surplus(trial):
                    self._give_back(trial)
                    return None
                proposal = Proposal(trial=trial, candidate=self.parts.space.suggest(cast(Suggest, trial)))
                trial.set_user_attr(CANDIDATE, proposal.candidate.to_dict())
            except BaseException:
                self._give_back(trial)
                raise
        self._open.append(proposal)
        return proposal

    def _ask(self, *, in_own_run: int) -> optuna.Trial:
        study = self.hosts.study
        context = proposal_context(
            study_seed=self.hosts.seed(self._spec.seed),
            finished=len(self.records) + in_own_run,
            startup_trials=self._spec.search.startup_trials,
            space=self.parts.space.suggest,
            costs=self._costs,
            floor=self.parts.floor,
            teacher=self.parts.teacher_quality,
            prior=self._spec.search.prior,
        )
        study.sampler = make_sampler(self._spec.search.sampler, context)
        trial = study.ask()
        while is_double(study, trial):
            study.tell(trial, state=TrialState.FAIL)
            trial = study.ask()
        return trial

    def _is_surplus(self, trial: optuna.Trial) -> bool:
        """Return True if other runs asked for the last trials at the same time."""
        earlier = sum(each.number < trial.number for each in self.hosts.in_flight())
        return self.is_complete() or earlier >= self._left

    def _is_deferred(self, proposal: Proposal) -> bool:
        """Return True if another process of this run tries the same candidate. Its outcome will be copied."""
        if self._answer(proposal) is not None:
            return False
        earlier = [trial for trial in self.hosts.in_flight() if trial.number < proposal.trial.number]
        return any(
            Candidate.from_dict(trial.user_attrs[CANDIDATE]) == proposal.candidate
            for trial in earlier
            if self.hosts.is_own(trial) and CANDIDATE in trial.user_attrs
        )

    def _answer(self, proposal: Proposal) -> Answer | None:
        """Return a result without training: an earlier trial's, or a failure if many processes died in it.

        Candidates stopped by the stopping rule are trained again. Candidates stopped by a pruner are not.
        """
        unknown = ("failed",) if self._spec.search.stop in PRUNERS else ("failed", "stopped")
        for record in self._earlier(proposal.candidate):
            if record.outcome.state not in unknown and record.repeats is None:
                return Answer(
                    outcome=record.outcome,
                    model=record.model,
                    repeats=record.trial,
                    files=record.files,
                    versions=record.versions,
                )
        reason = deadly(proposal.trial)
        if reason is None:
            return None
        failed = Outcome(candidate=proposal.candidate, seed=self._spec.seed, state="failed", reason=reason)
        return Answer(outcome=failed, model="")

    def _try(self, proposal: Proposal) -> Answer:
        """Train the candidate if the rules allow it; a broken rule is the reason of a failed trial.

        The stopping rule is overruled if it stopped the same candidate before.
        """
        trial, candidate, spec = proposal.trial, proposal.candidate, self._spec
        place, name = self._folder.trial(trial.number), f"trial {trial.number}"
        write_candidate(self._folder, trial.number, candidate)
        try:
            checked = self._candidate_rules.require(candidate)
        except RequestError as error:
            refused = Outcome(candidate=candidate, seed=spec.seed, state="failed", reason=str(error))
            return Answer(outcome=refused, model="")
        stopped = any(record.outcome.state == "stopped" for record in self._earlier(candidate))
        self.reporter.stage(name, 0, spec.training.epochs)
        outcome = run_checked_trial(
            checked,
            self.context,
            seed=spec.seed,
            model=place / spec.file_name,
            checkpoint=self._folder.checkpoint(candidate),
            on_epoch=lambda done, count: self.reporter.stage(name, done, count),
            stopper=make_stopper(trial, spec, Overruled(rule=self._rule) if stopped else self._rule),
            shadow=spec.search.stop == "shadow",
        )
        if outcome.state != "trained":
            return Answer(outcome=outcome, model="")
        model = f"trials/{trial.number}/{spec.file_name}"
        return Answer(outcome=outcome, model=model, files=digests_of_trial(self._folder, model))

    def _settle(self, trial: optuna.Trial, answer: Answer) -> None:
        """Record a trial and tell the study, unless another run took this one for dead and gave up the trial."""
        record = Record(
            trial=trial.number,
            params=dict(trial.params),
            outcome=answer.outcome,
            finished_s=self.clock.now(),
            model=answer.model,
            repeats=answer.repeats,
            files=answer.files,
            versions=answer.versions,
        )
        told = told_of(record, self._spec, budgets=self.context.budgets, task=self.parts.dataset.task)
        record = replace(record, told=told)
        try:
            self._tell(trial, record)
        except (UpdateFinishedTrialError, ValueError):
            if not self.hosts.was_given_up(trial.number):
                raise
            self.reporter.say(
                f"another run repeats trial {trial.number}, because this run wrote no heartbeat for {GRACE_S:.0f} s"
            )
            remove_trial(self._folder, trial.number)

    def _tell(self, trial: optuna.Trial, record: Record) -> None:
        # Attributes first: once the record is on disk, a restart tells the values only.
        for name, violation in ({} if record.told is None else record.told.constraints).items():
            trial.set_constraint(name, violation)
        for name, value in attributes(record).items():
            trial.set_user_attr(name, value)
        self.hosts.share(trial, record)
        write_record(self._folder, record)
        self._folder.checkpoint(record.outcome.candidate).unlink(missing_ok=True)
        tell(self.hosts.study, record, self._spec, task=self.parts.dataset.task)

    def _give_back(self, trial: optuna.Trial) -> None:
        frozen = self.hosts.study.trials[trial.number]
        if not frozen.state.is_finished():
            task = self.parts.dataset.task
            settle_cut(self.hosts.study, frozen, self._folder, self._spec, task=task, died=False)

    def _earlier(self, candidate: Candidate) -> Iterator[Record]:
        return (record for record in self.records if record.outcome.candidate == candidate)
