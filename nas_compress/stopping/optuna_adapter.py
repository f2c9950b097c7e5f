"""Early stopping for any Optuna study, with one objective or several. Optuna's own pruners accept only one.

This module does not import Optuna. The Protocols below are the parts of Optuna's interface in use.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from nas_compress.errors import RequestError
from nas_compress.stopping.curve import Curve
from nas_compress.stopping.rules import Rule

CURVE = "learning_curve"
"""The user attribute of a trial with its curve."""


class _Name(Protocol):
    @property
    def name(self) -> str: ...


class _Frozen(Protocol):
    @property
    def number(self) -> int: ...
    @property
    def state(self) -> _Name: ...
    @property
    def user_attrs(self) -> Mapping[str, Any]: ...


class _Study(Protocol):
    @property
    def directions(self) -> Sequence[_Name]: ...
    def get_trials(self, deepcopy: bool = True) -> Iterable[_Frozen]: ...


class _Trial(Protocol):
    @property
    def number(self) -> int: ...
    @property
    def study(self) -> _Study: ...
    def set_user_attr(self, key: str, value: Any) -> None: ...


@dataclass(kw_only=True, eq=False)
class Watch:
    """One trial under a stopping rule. Stop the training if `report` returns a reason.

    Then return the current values from the objective: most samplers learn little from failed or pruned trials.

    >>> import optuna
    >>> from nas_compress.stopping.moasha import MoAsha
    >>> optuna.logging.set_verbosity(optuna.logging.ERROR)
    >>> rule = MoAsha(rungs=(1 / 9, 1 / 3), eta=3)
    >>> def objective(trial):
    ...     width = trial.suggest_int("width", 1, 64)
    ...     watch = Watch(trial=trial, rule=rule, known=[width], planned=9)    # known before training
    ...     for epoch in range(1, 10):
    ...         accuracy = (1 - 1 / epoch) * (1 - 1 / width)                   # train one epoch
    ...         if watch.report(epoch, accuracy):
    ...             break
    ...     return accuracy, width
    >>> sampler = optuna.samplers.RandomSampler(seed=0)
    >>> study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    >>> study.optimize(objective, n_trials=30)
    >>> finished = [trial for trial in study.trials if curve_of(trial.user_attrs[CURVE]).finished]
    >>> 0 < len(finished) < 30
    True

    known: values of all objectives but the learned one, in the study's order and in their own directions.
    learned: index of the learned objective. planned: last step of a full training.
    stopped_at: step of the first reason to stop, None before.
    Reports are kept in the user attribute `learning_curve`, so other processes see them. A caller may train on after a
    reason, to measure the cost of the rule.
    """

    trial: _Trial
    rule: Rule
    known: Sequence[float]
    planned: int
    learned: int = 0
    stopped_at: int | None = None
    _points: list[tuple[int, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if len(self.known) + 1 != len(self.trial.study.directions) or not 0 <= self.learned <= len(self.known):
            raise RequestError(
                "known must hold every objective but the learned one, "
                f"but got {len(self.known)} of {len(self.trial.study.directions)} and learned={self.learned}"
            )
        self.planned = int(self.planned)  # storages need plain numbers, as JSON

    def report(self, step: int, value: float) -> str | None:
        """Record the learned value after `step` and return a reason to stop, or None.

        Steps that the rule does not need are ignored.
        """
        if not self.rule.wants(step, self.planned):
            return None
        step, value = int(step), float(value)
        signs = [-1.0 if direction.name == "MAXIMIZE" else 1.0 for direction in self.trial.study.directions]
        own = signs.pop(self.learned)
        # nan compares with nothing, so it becomes the worst value.
        self._points.append((step, own * value if math.isfinite(value) else math.inf))
        known = tuple(sign * float(cost) for sign, cost in zip(signs, self.known, strict=True))
        curve = Curve(known=known, planned=self.planned, points=tuple(self._points))
        reason = self.rule.verdict(curve, self._others())
        stopped_at = step if reason is not None and self.stopped_at is None else self.stopped_at
        self.trial.set_user_attr(CURVE, curve_attribute(curve, stopped_at))
        self.stopped_at = stopped_at  # only after it was stored: storing may fail
        return reason

    def _others(self) -> list[Curve]:
        """Curves of the other running and complete trials, each up to its first reason to stop."""
        return [
            curve_of(trial.user_attrs[CURVE])
            for trial in self.trial.study.get_trials(deepcopy=False)
            if trial.number != self.trial.number
            and trial.state.name in ("RUNNING", "COMPLETE")
            and CURVE in trial.user_attrs
        ]


def curve_attribute(curve: Curve, stopped_at: int | None) -> dict[str, Any]:
    """A curve as plain values for a user attribute. Infinity becomes None, because JSON has no infinity."""
    points = [[step, cost if math.isfinite(cost) else None] for step, cost in curve.points]
    return {"known": list(curve.known), "planned": curve.planned, "points": points, "spoke_at": stopped_at}


def curve_of(values: Mapping[str, Any]) -> Curve:
    """The inverse of `curve_attribute`, cut at the first reason to stop."""
    points = tuple((int(step), math.inf if cost is None else float(cost)) for step, cost in values["points"])
    curve = Curve(known=tuple(values["known"]), planned=int(values["planned"]), points=points)
    return curve if values["spoke_at"] is None else curve.until(int(values["spoke_at"]))
