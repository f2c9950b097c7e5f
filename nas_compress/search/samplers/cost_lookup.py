"""Lookup of a candidate's costs before training, from its untrained file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from nas_compress.config.schema import StudySpec
from nas_compress.errors import DeviceLostError, RequestError, is_of_one_trial
from nas_compress.measurement.pipeline import Stopwatch
from nas_compress.search.samplers.observations import Known
from nas_compress.trial.context import TrialContext
from nas_compress.trial.cost_bounds import depends_on_exits, size_is_sure
from nas_compress.trial.plan import plan_trial
from nas_compress.trial.validity import CandidateRules
from nas_compress.values.candidate import Candidate
from nas_compress.values.metrics.table import METRICS
from nas_compress.values.outcome import Measured


@dataclass(frozen=True, kw_only=True, eq=False)
class CostLookup:
    """Looks up objectives and constraints of candidates with the code and the device of a trial."""

    spec: StudySpec
    context: TrialContext
    rules: CandidateRules

    @property
    def knows_something(self) -> bool:
        """True if a lookup finds anything. A reward is known after training only, and all constraints may be too."""
        objectives = set(self.spec.objectives) if self.spec.reward is None else set()
        return bool(self._sure(self._budgets | objectives, zero_pattern="none"))

    def __call__(self, candidate: object) -> Known | None:
        """Return the figures independent of training; None if the candidate cannot be exported.

        DeviceLostError if a named device did not give its figure.
        """
        if not isinstance(candidate, Candidate):
            raise TypeError(f"a space makes candidates, but got {type(candidate).__name__}")
        cost = self._measured(candidate)
        if cost is None:
            return None
        sure = self._sure({*self.spec.objectives, *self._budgets}, zero_pattern=candidate.sparsity.pattern)
        lost = [name for name in sorted(sure) if METRICS[name].device and cost.lacks(name)]
        if lost:
            raise DeviceLostError(f"{lost[0]} was not measured")
        values = {name: cost.figure(name) for name in sure}
        # the rates of exits are assumed: no reason to refuse
        forecast = {name for name in values if candidate.exits is not None and depends_on_exits(name)}
        objectives = self.spec.objectives if self.spec.reward is None else ("reward",)
        return Known(
            values=tuple(values.get(name) for name in objectives),
            constraints={
                budget.key: budget.violation(values[budget.name])
                for budget in self.context.budgets
                if budget.name in values and budget.name not in forecast
            },
        )

    @property
    def _budgets(self) -> set[str]:
        return {budget.name for budget in self.context.budgets}

    def _sure(self, names: set[str], *, zero_pattern: str) -> set[str]:
        """Return the names of the figures independent of training."""
        size_too = size_is_sure(self.spec.file_name, zero_pattern=zero_pattern)
        known = {name for name in names if METRICS[name].known_before_training}
        return known if size_too else known - {"size_bytes"}

    def _measured(self, candidate: Candidate) -> Measured | None:
        try:
            checked = self.rules.require(candidate)
        except RequestError:
            return None
        try:
            with self.context.target.busy(), TemporaryDirectory(prefix="nas_compress_") as folder:
                plan, _ = plan_trial(
                    checked,
                    self.context,
                    seed=self.spec.seed,
                    folder=Path(folder),
                    name=self.spec.file_name,
                    watch=Stopwatch(),
                )
        except Exception as error:
            if not is_of_one_trial(error):
                raise
            return None
        return plan.cost
