"""Stopping rule of a study, or Optuna's pruner, and the stopper of one trial."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import optuna
from optuna.exceptions import StorageInternalError

from nas_compress.config.schema import StudySpec
from nas_compress.config.search_section import PRUNERS
from nas_compress.errors import RequestError
from nas_compress.search.samplers.table import SAMPLERS
from nas_compress.stopping.optuna_adapter import Watch
from nas_compress.stopping.rules import NoRule, Rule
from nas_compress.stopping.table import make_rule
from nas_compress.tasks.task import Task
from nas_compress.trial.monitor import Stopper
from nas_compress.values.device_settings import P95
from nas_compress.values.metrics.named_device_rows import SIGN
from nas_compress.values.metrics.table import METRICS, Objective, Reward
from nas_compress.values.outcome import Measured


def learned_objective(objectives: Sequence[str]) -> str | None:
    """Return the one objective unknown before training; None if there is not exactly one.

    A stopping rule compares learning curves of one metric, next to costs known before training.
    """
    learned = [name for name in objectives if not METRICS[name].known_before_training]
    return learned[0] if len(learned) == 1 else None


def study_rule(spec: StudySpec, where: str = "") -> Rule:
    """Return the rule of the study file. Raise RequestError if it could never stop a trial."""
    search, epochs = spec.search, spec.training.epochs
    if search.stop in PRUNERS:
        return EveryEpoch()
    if search.stop == "auto":
        several = learned_objective(spec.objectives) is not None and len(spec.objectives) > 1 and spec.reward is None
        return make_rule(SAMPLERS[search.sampler].rule if several else "none", steps=epochs)
    rule = make_rule(search.rule, steps=epochs, rungs=search.rungs, eta=search.eta, risk=search.risk, where=where)
    place = f" ({where})" if where else ""
    if search.rule != "none" and learned_objective(spec.objectives) is None and spec.reward is None:
        raise RequestError(
            "a stopping rule needs exactly one objective that training determines, such as accuracy, "
            f"but got {search.rule!r} with objectives={list(spec.objectives)}{place}"
        )
    if search.rule != "none" and not any(rule.wants(epoch, epochs) for epoch in range(1, epochs)):
        raise RequestError(
            f"a stopping rule must look at an epoch before the last, but {search.rule!r} has none with "
            f"training.epochs={epochs} and search.eta={search.eta}{place}"
        )
    return rule


def require_metrics(spec: StudySpec, task: Task, where: str = "") -> None:
    """Raise RequestError if an objective, a budget or a reward needs a metric that the task does not measure.

    A stopping rule follows the learning curve, whose values are the task's primary metric.
    """
    reward = spec.reward
    quality = () if reward is None else (reward.quality,)
    for key, names in {"objectives": spec.objectives, "budgets": spec.budgets, "search.reward": quality}.items():
        for name in names:
            if name not in task.metrics and not METRICS[name].known_before_training:
                raise RequestError(
                    f"{where}{key} must be metrics of the task {task.name} ({', '.join(task.metrics)}) or known before "
                    f"training, but got {name}"
                )
            if name.partition(SIGN)[0] == P95 and not _differ(task):
                rule = f"{where}{key}: {P95} needs samples of several lengths or a task that may have early exits"
                raise RequestError(f"{rule}, but got the task {task.name}; use latency_ms")
    epochs, primary = spec.training.epochs, task.metrics[0]
    learned = learned_objective(spec.objectives) if reward is None else reward.quality
    stops = any(study_rule(spec).wants(epoch, epochs) for epoch in range(1, epochs))
    if stops and learned not in (None, primary):
        raise RequestError(
            f"{where}search.stop needs the primary metric of the task {task.name}, {primary}, as the objective that "
            f'training determines, but got {learned}; use stop = "none"'
        )


def _differ(task: Task) -> bool:
    """Return True if samples may take different times: by their lengths, or by early exits."""
    return task.classes is not None or any(each.lengths for each in task.signature.inputs)


def study_pruner(spec: StudySpec) -> optuna.pruners.BasePruner:
    """Return Optuna's pruner of the study file, or a pruner without effect."""
    epochs, eta = spec.training.epochs, spec.search.eta
    match spec.search.stop:
        case "median":
            return optuna.pruners.MedianPruner(n_startup_trials=max(1, spec.search.startup_trials // 2))
        case "halving":
            return optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=eta)
        case "hyperband":
            return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=epochs, reduction_factor=eta)
    return optuna.pruners.NopPruner()


def make_stopper(trial: optuna.Trial, spec: StudySpec, rule: Rule) -> Stopper:
    """Return the stopper of one trial."""
    if spec.search.stop in PRUNERS and spec.reward is not None:
        return PrunerStopper(trial=trial, reward=spec.reward, name=spec.search.stop)
    return RuleStopper(trial=trial, rule=rule, objectives=spec.objective_list, reward=spec.reward)


class EveryEpoch(NoRule):
    """A rule for Optuna's pruners: it reads every epoch and never stops."""

    def wants(self, step: int, planned: int) -> bool:
        """Read every epoch."""
        return True


@dataclass(kw_only=True, eq=False)
class PrunerStopper:
    """Stopper by Optuna's pruner. It reports the reward of the accuracy so far at the cost of the untrained file."""

    trial: optuna.Trial
    reward: Reward
    name: str
    _cost: float = field(default=math.nan, init=False)

    def begin(self, cost: Measured, planned: int) -> None:
        """Keep the cost of the untrained file; nan if a device was lost, and then nothing stops the training."""
        self._cost = cost.figures.get(self.reward.figure, math.nan)

    def wants(self, epoch: int) -> bool:
        """Read every epoch."""
        return True

    def stop_reason(self, epoch: int, accuracy: float) -> str | None:
        """Report the reward and ask the pruner."""
        if math.isnan(self._cost):
            return None
        with suppress(StorageInternalError):  # as with a rule
            self.trial.report(self.reward.value(accuracy, self._cost), epoch)
            if self.trial.should_prune():
                return f"Optuna's pruner {self.name} stopped it after epoch {epoch}"
        return None


@dataclass(kw_only=True, eq=False)
class RuleStopper:
    """Stopper by the study's rule. With a `reward`, the rule sees the reward."""

    trial: optuna.Trial
    rule: Rule
    objectives: tuple[Objective, ...]
    reward: Reward | None = None
    _watch: Watch | None = field(default=None, init=False)
    _planned: int = field(default=0, init=False)
    _cost: float = field(default=math.nan, init=False)
    _blind: bool = field(default=False, init=False)

    def begin(self, cost: Measured, planned: int) -> None:
        """Keep the costs of the untrained file as the known objectives.

        Nothing stops the training if a device was lost and left one of them open.
        """
        names = [objective.name for objective in self.objectives]
        self._planned = planned
        asked = names if self.reward is None else [self.reward.figure]
        self._blind = any(METRICS[name].device and cost.lacks(name) for name in asked)
        if self._blind:
            return
        if self.reward is not None:
            self._cost = cost.figure(self.reward.figure)
            self._watch = Watch(trial=self.trial, rule=self.rule, known=(), planned=planned)
            return
        learned = learned_objective(names)
        if learned is None:  # the rule is `none` then and compares nothing
            return
        self._watch = Watch(
            trial=self.trial,
            rule=self.rule,
            known=[cost.figure(name) for name in names if name != learned],
            planned=planned,
            learned=names.index(learned),
        )

    def wants(self, epoch: int) -> bool:
        """Return True if the rule reads this epoch."""
        return not self._blind and self.rule.wants(epoch, self._planned)

    def stop_reason(self, epoch: int, accuracy: float) -> str | None:
        """Ask the rule."""
        if self._watch is None:
            raise RuntimeError("begin() must be called before stop_reason()")
        learned = accuracy if self.reward is None else self.reward.value(accuracy, self._cost)
        with suppress(StorageInternalError):  # unreachable: train on; the end of the trial reports a lasting failure
            return self._watch.report(epoch, learned)
        return None
