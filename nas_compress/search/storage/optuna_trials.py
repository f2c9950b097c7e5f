"""The trial of Optuna that belongs to a record: state, values, constraints and attributes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite, isnan
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from nas_compress.config.schema import StudySpec
from nas_compress.config.search_section import PRUNERS
from nas_compress.errors import NasCompressError
from nas_compress.runs.records import Record, Told
from nas_compress.search.samplers.proposals import SpacePoint, Suggesting, point_of
from nas_compress.search.storage.attribute_names import CANDIDATE
from nas_compress.search.trial_stopper import learned_objective, study_rule
from nas_compress.stopping.curve import Curve
from nas_compress.stopping.optuna_adapter import CURVE, curve_attribute
from nas_compress.tasks.task import Task
from nas_compress.values.candidate import Candidate
from nas_compress.values.metrics.table import METRICS, Budget
from nas_compress.values.outcome import Outcome

STEADY = ("state", "seed", "epochs", "planned_epochs", "seconds", "model", "repeats")
"""Attributes of a trial that no later measurement changes."""


def attributes(record: Record) -> dict[str, Any]:
    """Return the user attributes of the trial of a record."""
    outcome = record.outcome
    return {
        "state": outcome.state,
        "reason": outcome.reason,
        "seed": outcome.seed,
        "epochs": outcome.epochs,
        "planned_epochs": outcome.planned_epochs,
        CANDIDATE: outcome.candidate.to_dict(),
        "measured": None if outcome.measured is None else outcome.measured.to_dict(),
        "seconds": dict(outcome.seconds),
        "model": record.model,
        "repeats": record.repeats,
    }


def ended_state(record: Record, spec: StudySpec) -> TrialState:
    """Return the state of the trial of a record.

    failed: FAIL. over budget: COMPLETE but infeasible. stopped: COMPLETE, or PRUNED if Optuna's pruner stopped it.
    PRUNED too if a lost device left a value open: Optuna admits no complete trial without one.
    """
    if record.outcome.state == "failed":
        return TrialState.FAIL
    if _left_open(record, spec):
        return TrialState.PRUNED
    pruned = record.outcome.state == "stopped" and spec.search.stop in PRUNERS and record.repeats is None
    return TrialState.PRUNED if pruned else TrialState.COMPLETE


def _left_open(record: Record, spec: StudySpec) -> bool:
    """True if the sampler got no values because a named device was lost. Figures measured later change nothing."""
    if record.told is not None:
        return not record.told.values
    measured = record.outcome.measured
    asked = spec.objectives if spec.reward is None else (spec.reward.figure,)
    return measured is not None and any(METRICS[name].device and measured.lacks(name) for name in asked)


def told_of(record: Record, spec: StudySpec, *, budgets: Sequence[Budget], task: Task) -> Told:
    """Return the values and constraints of a trial for the sampler.

    budgets: those of the study, with the limits relative to the teacher's figures.
    """
    complete = ended_state(record, spec) == TrialState.COMPLETE
    return Told(
        values=tuple(map(float, told_values(record.outcome, spec, task=task))) if complete else (),
        constraints=dict(constraints(record.outcome, budgets, task=task)),
    )


def told_trial(record: Record, spec: StudySpec, *, task: Task, space: Suggesting) -> FrozenTrial:
    """Return the finished trial of a record.

    A record of a candidate outside the search space gets a failed trial without parameters: no sampler can use it.
    """
    point = _point(record, space)
    if point is None:
        return bare_trial(TrialState.FAIL)
    # Records without `told` are older than budgets relative to the teacher.
    told = record.told or told_of(record, spec, budgets=spec.budget_list, task=task)
    state = ended_state(record, spec)
    reported = _reported(record, spec)
    last = [value for value in reported.values() if state == TrialState.PRUNED][-1:]  # Optuna's value of a pruned trial
    values = list(told.values) or [value for value in last if not isnan(value)] or None
    return optuna.create_trial(
        state=state,
        values=values,
        params=dict(record.params),
        distributions=dict(point.distributions),
        user_attrs=attributes(record) | _curve(record, spec, told),
        constraints=dict(told.constraints),
        intermediate_values=reported,
    )


def bare_trial(state: TrialState) -> FrozenTrial:
    """Return a trial without content."""
    return optuna.create_trial(state=state)


def difference(trial: FrozenTrial, expected: FrozenTrial, record: Record, spec: StudySpec) -> str | None:
    """Return the first part of a stored trial that differs from the trial of its record, None if none does.

    A running trial may equal its record: its process ended between the record and the storage.
    """
    open_still = trial.state == TrialState.RUNNING
    if not open_still and trial.state != expected.state:
        return "state"
    if not expected.params and expected.state == TrialState.FAIL and record.params:
        return None
    if trial.params != expected.params or trial.distributions != expected.distributions:
        return "parameters"
    if expected.state == TrialState.COMPLETE and not open_still and not _same_values(trial, expected, record, spec):
        return "values"
    if record.told is not None and trial.constraints != expected.constraints:
        return "constraints"
    curves = trial.user_attrs.get(CURVE), expected.user_attrs.get(CURVE)
    without = curves[0] is None and bool(spec.devices)  # a device was lost before the training only
    if spec.reward is None and not without and not _same_points(*curves):
        return f"attribute {CURVE}"
    return _different_attribute(trial.user_attrs, expected.user_attrs, record)


def told_values(outcome: Outcome, spec: StudySpec, *, task: Task) -> list[float]:
    """Return the values of the objectives, or the one reward.

    A stopped student gets the last value of its curve, as a hint for the sampler. Other metrics without
    a measurement get the task's chance level, or the worst value of the metric.
    """
    reward = spec.reward
    if reward is not None:
        return [reward.value(_figure(outcome, reward.quality, task), _figure(outcome, reward.figure, task))]
    return [_figure(outcome, name, task) for name in spec.objectives]


def constraints(outcome: Outcome, budgets: Sequence[Budget], *, task: Task) -> list[tuple[str, float]]:
    """Return Optuna's constraints (<= 0 is satisfied), with the same keys in the same order for every trial.

    An unknown figure breaks its budget by 1, as much as twice an upper limit.
    """
    if outcome.measured is None:
        return [(budget.key, 1.0) for budget in budgets]
    excess = [(budget.key, budget.violation(_figure(outcome, budget.name, task))) for budget in budgets]
    return [(name, violation if isfinite(violation) else 1.0) for name, violation in excess]


def _figure(outcome: Outcome, name: str, task: Task) -> float:
    measured = outcome.measured
    if measured is None:
        raise ValueError("a failed trial has no figures")
    if name in measured.figures:
        return measured.figure(name)
    if METRICS[name].device:
        return METRICS[name].worst  # of a constraint: infeasible until it is measured
    if METRICS[name].known_before_training:
        return measured.figure(name)
    if outcome.curve and name == task.metrics[0] and not isnan(outcome.curve[-1][1]):
        return outcome.curve[-1][1]
    chance = task.chance(name)
    return METRICS[name].worst if chance is None else chance


def _point(record: Record, space: Suggesting) -> SpacePoint | None:
    """Return the point of a record in the search space, None if the space has no such candidate."""
    try:
        point = point_of(space, record.params)
    except NasCompressError:
        return None
    return point if point is not None and point.candidate == record.outcome.candidate else None


def _curve(record: Record, spec: StudySpec, told: Told) -> dict[str, Any]:
    """Return the attribute with the learning curve, as the stopping rule wrote it; empty without one."""
    outcome = record.outcome
    rule, names = study_rule(spec), spec.value_names
    learned = learned_objective(spec.objectives) if spec.reward is None else names[0]
    steps = [(epoch, value) for epoch, value in outcome.curve if rule.wants(epoch, outcome.planned_epochs)]
    if not steps or learned is None or record.repeats is not None or not told.values or spec.search.stop in PRUNERS:
        return {}
    signs = [-1.0 if direction == "maximize" else 1.0 for direction in spec.directions]
    costs = [sign * value for sign, value in zip(signs, told.values, strict=True)]
    place = names.index(learned)
    known = tuple(costs[:place] + costs[place + 1 :])
    own = [(epoch, signs[place] * _learned(record, spec, value)) for epoch, value in steps]
    curve = Curve(known=known, planned=outcome.planned_epochs, points=tuple(own))
    return {CURVE: curve_attribute(curve, outcome.stopped_at)}


def _reported(record: Record, spec: StudySpec) -> dict[int, float]:
    """Return the values that Optuna's pruner got after each epoch."""
    if spec.search.stop not in PRUNERS or record.repeats is not None or record.outcome.measured is None:
        return {}
    if spec.reward is not None and record.outcome.measured.lacks(spec.reward.figure):
        return {}
    return {epoch: _learned(record, spec, value) for epoch, value in record.outcome.curve}


def _learned(record: Record, spec: StudySpec, value: float) -> float:
    """Return the learned value of the study for a value of the learning curve."""
    if spec.reward is None or record.outcome.measured is None:
        return value
    return spec.reward.value(value, record.outcome.measured.figure(spec.reward.figure))


def _same_values(trial: FrozenTrial, expected: FrozenTrial, record: Record, spec: StudySpec) -> bool:
    """Compare values. Without `told` in the record, timed figures may have been measured again since."""
    timed = [False] * len(expected.values)
    if record.told is None:
        timed = [spec.reward is not None or METRICS[name].timed for name in spec.value_names]
    known = trial.values or ()
    return len(known) == len(timed) and all(
        skip or one == other for skip, one, other in zip(timed, known, expected.values, strict=True)
    )


def _same_points(known: Any, expected: Mapping[str, Any] | None) -> bool:
    """Compare learning curves. A resumed process may have asked the rule again, so its verdict may differ."""
    if expected is None:
        return True
    return isinstance(known, dict) and all(known.get(part) == expected[part] for part in ("planned", "points"))


def _different_attribute(known: Mapping[str, Any], expected: Mapping[str, Any], record: Record) -> str | None:
    for name in STEADY:
        if name not in known or known[name] != expected[name]:
            return f"attribute {name}"
    if _untimed(known.get("measured")) != _untimed(expected["measured"]):
        return "attribute measured"
    if known.get(CANDIDATE) != expected[CANDIDATE] and not _is_candidate(
        known.get(CANDIDATE), record.outcome.candidate
    ):
        return f"attribute {CANDIDATE}"
    return None


def _untimed(measured: Any) -> Any:
    """Return the figures that no later measurement changes."""
    if not isinstance(measured, dict):
        return measured
    return {name: value for name, value in measured.items() if name in METRICS and not METRICS[name].timed}


def _is_candidate(values: Any, candidate: Candidate) -> bool:
    """True for the candidate as an earlier version wrote it."""
    try:
        return Candidate.from_dict(values) == candidate
    except (NasCompressError, ValueError, TypeError, KeyError, AttributeError):
        return False
