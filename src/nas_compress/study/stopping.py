"""The stopping rule of a study, and the judge that holds a trial against it."""

from __future__ import annotations

from dataclasses import dataclass, field

import optuna

from nas_compress.objective import Objective
from nas_compress.outcome import Measured
from nas_compress.spec.schema import StudySpec
from nas_compress.stopping.adapter import Watch
from nas_compress.stopping.catalogue import make_rule
from nas_compress.stopping.rules import NoRule, Rule

LEARNED = "accuracy"
"""The objective that only training tells."""


def study_rule(spec: StudySpec, where: str = "") -> Rule:
    """The rule that the study file asks for; none where accuracy is no objective, for then nothing is learned."""
    search = spec.search
    if LEARNED not in spec.objectives:
        return NoRule()
    return make_rule(
        search.rule, steps=spec.training.epochs, rungs=search.rungs, eta=search.eta, risk=search.risk, where=where
    )


@dataclass(kw_only=True, eq=False)
class TrialJudge:
    """One Optuna trial under the study's rule."""

    trial: optuna.Trial
    rule: Rule
    objectives: tuple[Objective, ...]
    _watch: Watch | None = field(default=None, init=False)
    _planned: int = field(default=0, init=False)

    def begin(self, cost: Measured, planned: int) -> None:
        """The costs of the untrained file are the known objectives."""
        names = [objective.name for objective in self.objectives]
        self._planned = planned
        if LEARNED not in names:  # then the rule is none, and asks nothing
            return
        self._watch = Watch(
            trial=self.trial,
            rule=self.rule,
            known=[cost.figure(name) for name in names if name != LEARNED],
            planned=planned,
            learned=names.index(LEARNED),
        )

    def wants(self, epoch: int) -> bool:
        """Where the rule looks."""
        return self.rule.wants(epoch, self._planned)

    def verdict(self, epoch: int, accuracy: float) -> str | None:
        """Ask the rule."""
        if self._watch is None:
            raise RuntimeError("begin comes before verdict")
        return self._watch.report(epoch, accuracy)
