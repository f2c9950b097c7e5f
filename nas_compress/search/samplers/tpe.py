"""Independent TPE for several objectives that sorts the trials once a proposal.

Optuna's own `TPESampler` proposes the same way, but sorts all trials again for each parameter, which at 2,000 trials
and 13 parameters takes most of its time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import RandomSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nas_compress.search.samplers.independent import IndependentSampler
from nas_compress.search.samplers.parzen import best_draw
from nas_compress.values.order import fronts
from nas_compress.values.pareto import spread_subset

Floats = NDArray[np.float64]

GOOD = 0.1
"""The part of all finished trials that counts as good."""
DRAWS = 24
"""Values drawn for each parameter, of which the best is proposed."""
RECENT = 8
"""The trials among which repeats are counted."""


@dataclass(frozen=True, kw_only=True)
class _Split:
    """Parameters of the good trials, and of the others from the oldest to the newest; None where it is too early.

    `draws` values of each parameter are drawn.
    """

    trial: int
    draws: int = 0
    good: list[dict[str, Any]] | None = None
    bad: list[dict[str, Any]] | None = None


class IndependentTPESampler(IndependentSampler):
    """The tree-structured Parzen estimator, each parameter on its own.

    Bergstra et al. 2011; Ozaki et al. 2022 (doi 10.1613/jair.1.13188) for several objectives. Good are the first
    tenth of the finished trials by non-dominated fronts, the last front cut by hypervolume; trials that break a
    constraint come after all others, by their total violation; trials that still run count as bad. The first
    `startup_trials` are random. Trials that failed are left out.

    Where parameters have few values each, the best of many draws is the same one again and again. So trials of equal
    parameters and values count once, each repeat among the last `RECENT` halves the draws, and where all of those are
    repeats a proposal is random.
    """

    def __init__(self, *, seed: int, startup_trials: int) -> None:
        self._random = np.random.default_rng(seed)
        self._uniform = RandomSampler(seed=seed)
        self._startup_trials = startup_trials
        self._split: _Split | None = None

    def reseed_rng(self) -> None:
        """Draw a new seed."""
        self._random = np.random.default_rng()
        self._uniform.reseed_rng()

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Propose one parameter."""
        if self._split is None or self._split.trial != trial.number:
            self._split = self._divide(study, trial)
        if self._split.good is None or self._split.bad is None:
            return self._uniform.sample_independent(study, trial, param_name, param_distribution)
        good, bad = (
            _observed(params, param_name, param_distribution) for params in (self._split.good, self._split.bad)
        )
        value = best_draw(
            param_distribution, good, bad, _recency(len(bad)), draws=self._split.draws, random=self._random
        )
        return param_distribution.to_external_repr(value)

    def _divide(self, study: Study, trial: FrozenTrial) -> _Split:
        states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
        trials = [t for t in study.get_trials(deepcopy=False, states=states) if t.number != trial.number]
        finished = [t for t in trials if t.state != TrialState.RUNNING]
        running = [t for t in trials if t.state == TrialState.RUNNING]
        distinct, repeats = _distinct(finished)
        if len(finished) < self._startup_trials or not finished or repeats == RECENT:
            return _Split(trial=trial.number)
        signs = np.array([-1.0 if d == StudyDirection.MAXIMIZE else 1.0 for d in study.directions])
        good = _best(distinct, signs, math.ceil(GOOD * len(distinct)))
        return _Split(
            trial=trial.number,
            draws=max(1, DRAWS >> repeats),
            good=[t.params for t in distinct if t.number in good],
            bad=[t.params for t in distinct + running if t.number not in good],
        )


def _distinct(finished: Sequence[FrozenTrial]) -> tuple[list[FrozenTrial], int]:
    """The first of all trials with equal parameters and values, and how many of the last `RECENT` repeat one."""
    distinct: dict[object, FrozenTrial] = {}
    repeats: list[bool] = []
    for trial in finished:
        key = (tuple(trial.params.items()), None if trial.values is None else tuple(trial.values))
        repeats.append(key in distinct)
        distinct.setdefault(key, trial)
    return list(distinct.values()), sum(repeats[-RECENT:])


def _best(trials: Sequence[FrozenTrial], signs: Floats, count: int) -> set[int]:
    """Numbers of the `count` best: feasible ones by fronts, then pruned ones, then the least infeasible."""
    violations = [sum(v for v in t.constraints.values() if v > 0) for t in trials]
    told, others = [], []
    for trial, violation in zip(trials, violations, strict=True):
        if violation == 0 and trial.state == TrialState.COMPLETE:
            told.append(trial)
        else:
            others.append((violation, trial.number))
    values = np.array([trial.values for trial in told], dtype=np.float64).reshape(-1, len(signs))
    chosen = {told[row].number for row in _first((values * signs).tobytes(), len(signs), count)}
    return chosen | {number for _, number in sorted(others)[: count - len(chosen)]}


@lru_cache(maxsize=1)
def _first(table: bytes, columns: int, count: int) -> NDArray[np.intp]:
    """The first `count` rows by fronts; of the front that does not fit whole, those that add most hypervolume.

    Kept for the next proposal, which sees the same trials where this one repeats a candidate.
    """
    costs = np.frombuffer(table).reshape(-1, columns)
    if count >= len(costs):
        return np.arange(len(costs))
    number = fronts(costs, enough=count)
    rows: list[int] = []
    for front in range(int(number.max()) + 1):
        members = np.flatnonzero(number == front)
        if len(rows) + len(members) > count:
            members = members[spread_subset(costs[members], _worst(costs[members]), count - len(rows))]
        rows += members.tolist()
        if len(rows) >= count:
            break
    return np.array(rows, dtype=np.intp)


def _worst(costs: Floats) -> Floats:
    """A reference a little beyond the worst of each column, so that extreme rows add something."""
    worst = costs.max(axis=0)
    return np.asarray(worst + np.maximum(0.1 * np.abs(worst), 1e-12), dtype=np.float64)


def _observed(params: list[dict[str, Any]], name: str, distribution: BaseDistribution) -> Floats:
    """The values of one parameter where it was proposed, as Optuna's internal numbers."""
    values = [given[name] for given in params if name in given]
    if isinstance(distribution, CategoricalDistribution):
        codes = {choice: index for index, choice in enumerate(distribution.choices)}
        if len(codes) == len(distribution.choices):  # else 1 and True, or two nan, would be one
            return np.array(list(map(codes.__getitem__, values)), dtype=np.float64)
    elif set(map(type, values)) <= {int, float}:
        return np.array(values, dtype=np.float64)
    return np.array([distribution.to_internal_repr(value) for value in values], dtype=np.float64)


def _recency(count: int) -> Floats:
    """Weights of the bad trials, from old to new: the last 25 count fully, the others ever less."""
    if count <= 25:
        return np.ones(count)
    return np.concatenate([np.linspace(1 / count, 1.0, count - 25), np.ones(25)])
