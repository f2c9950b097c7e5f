"""Sampler by expected hypervolume improvement, with costs of candidates looked up before training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from functools import lru_cache, partial
from random import Random
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from threadpoolctl import threadpool_limits

from nas_compress.search.samplers.acquisition import TINY, Acquisition, best_quality
from nas_compress.search.samplers.belief import as_suggested, logarithms, some_of
from nas_compress.search.samplers.cost_cache import Costs, KnownCosts
from nas_compress.search.samplers.earlier import Earlier, earlier_candidates
from nas_compress.search.samplers.gaussian_process import differences
from nas_compress.search.samplers.observations import Observed, fullest, is_closed, observe
from nas_compress.search.samplers.proposals import (
    Key,
    SpacePoint,
    Suggesting,
    draw,
    features,
    key_of,
    neighbour,
    point_of,
    seen_space,
)

LEARNED_FROM = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING, TrialState.FAIL)
"""States of trials in the models."""
START = 3
"""Number of trials before the models are used. Their candidates are far apart. Three were best in replays."""
SURVEY = 24
"""Number of candidates whose costs are looked up before the models are used."""
NEAR = 0.03
"""Distance from the teacher, or from the best student if it is better, of candidates near it, for metrics from 0 to 1.

People need those, and the volume of the whole front hardly values them.
"""
NEAR_EVERY = 2
"""One of this many proposals counts the candidates near the teacher."""
HOPELESS = 1e-9
"""Largest expected gain above a level, of a front of extent 1, that says nothing about where to look."""
CHOICES = 3
"""Number of choices if other workers start the proposed candidate meanwhile. A choice takes seconds."""
LOOKS = 8
"""Limit of cost lookups for one proposal."""
DRAWN = 96
"""Number of points drawn from the space for one proposal."""
NEIGHBOURS = 40
"""Number of neighbours of the front's members, and again of the best `BEST` points."""
BEST = 16


class EHVISampler(BaseSampler):
    """Proposes the candidate with the largest expected hypervolume improvement over the front.

    Emmerich et al. 2006 (doi 10.1109/TEVC.2005.859463). Each objective and constraint has a Gaussian process on the
    parameters. The improvement is multiplied by the probability to keep the constraints (Gardner et al. 2014).
    Compared are points drawn from the `space`, neighbours of the front's members and neighbours of the best of these.

    costs: looks up a candidate's costs before training. `SURVEY` random candidates are looked up before the models are
    used, unless earlier studies have all objectives. Then, as a rule, only candidates with known costs are proposed.
    The costs are kept in the study's user attributes.
    startup_trials: number of first trials, at most `START`. Their candidates are far apart.
    floor: smallest quality of interest. Without it, every second proposal improves the front near the teacher's
    quality, within NEAR, and the others the whole front. The quality is the first maximised objective that training
    determines. teacher: its quality; None if it is not known, then the best one so far counts.

    prior: the user's guess of good parameters. Half of the points are drawn with a part of it. It is a factor of the
    improvement that fades (belief.py). Candidates of earlier studies in the study's attributes teach the models too
    (earlier.py).

    Trained, running and failed candidates are not proposed. Running candidates count with the models' mean
    (Ginsbourger et al. 2010, the kriging believer). If no candidate is left, a proposal is random. Without a `space`,
    points are drawn from the common parameters of all trials.
    """

    def __init__(
        self,
        *,
        seed: int,
        startup_trials: int,
        space: Suggesting | None = None,
        costs: Costs | None = None,
        floor: float | None = None,
        teacher: float | None = None,
        prior: Mapping[str, Any] | None = None,
    ) -> None:
        self._seed = seed
        self._uniform = RandomSampler(seed=seed)
        self._startup_trials = min(startup_trials, START)
        self._space, self._costs, self._floor, self._teacher = space, costs, floor, teacher
        self._prior: Mapping[str, Any] = prior or {}
        self._chosen: tuple[int, SpacePoint | None] | None = None

    def reseed_rng(self) -> None:
        """Draw a new seed."""
        self._seed = Random().getrandbits(32)
        self._uniform.reseed_rng()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return no parameters: each one is sampled when the space asks for it."""
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return no values, because no parameter is relative."""
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return the proposal's value, or a random one if the proposal lacks the parameter."""
        if self._chosen is None or self._chosen[0] != trial.number:
            self._chosen = trial.number, self._choose(study, trial)
        point = self._chosen[1]
        if point is not None and point.distributions.get(param_name) == param_distribution:
            return point.params[param_name]
        return self._uniform.sample_independent(study, trial, param_name, param_distribution)

    def _choose(self, study: Study, trial: FrozenTrial) -> SpacePoint | None:
        """Return a proposal; choose again if another worker started the same one in the meantime."""
        for _ in range(CHOICES):
            point = self._propose(study, trial)
            running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
            if point is None or all(key_of(other.params) != point.key for other in running):
                return point
        return point

    def _propose(self, study: Study, trial: FrozenTrial) -> SpacePoint | None:
        """Return the best of many points; None, for a random proposal, if the space is unknown or exhausted."""
        others = study.get_trials(deepcopy=False, states=LEARNED_FROM)
        told = [other for other in others if other.params and other.number != trial.number]
        space = self._space or seen_space(told)
        if space is None:
            return None
        given = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
        random, trials, earlier = Random(self._seed), fullest(told), earlier_candidates(study)
        drawn = [draw(space, random, given) for _ in range(DRAWN)]
        if self._prior:
            self._prior = as_suggested(space, self._prior)
            guessed = [draw(space, random, {**some_of(self._prior, random), **given}) for _ in range(DRAWN)]
            drawn = [draw(space, random, {**self._prior, **given}), *drawn[::2], *guessed[::2]]
        closed = _closed(self._space, trials)
        fresh = _fresh(drawn, closed)
        if fresh and len(trials) + len(earlier) < self._startup_trials:
            tried = [other.params for other in trials.values()]
            return fresh[0] if self._prior and not tried else _farthest(fresh, tried)
        known = KnownCosts(study, self._costs)
        if not earlier or any(all(value is None for value in values) for values in _columns(earlier)):
            known.look_up(drawn, enough=SURVEY)
        with threadpool_limits(1):  # small tables: a second thread costs more than it saves
            observed = partial(observe, trials, known.found, study.directions, study.metric_names, earlier)
            near = trial.number % NEAR_EVERY == 0
            return self._best(fresh, space, random, given, known, closed, observed, near=near)

    def _floors(self, observed: Observed, *, near: bool) -> tuple[float | None, ...]:
        """Return the least qualities that count for a proposal; None for the whole front."""
        best = best_quality(observed)
        if self._floor is not None or not near or not observed.is_share or best is None:
            return (self._floor,)
        return (max(best, self._teacher or 0.0) - NEAR,)

    def _models(
        self, observed: Observed, seen: Mapping[str, BaseDistribution], points: Sequence[SpacePoint], *, near: bool
    ) -> Acquisition:
        """Return the models with what counts for a proposal.

        Far below the level that counts, no candidate seems to reach it, and all would be equal. Then the level is NEAR
        below the best student so far.
        """
        floors, best = self._floors(observed, near=near), best_quality(observed)
        models = Acquisition(observed, seen, floors=floors)
        if floors[0] is None or best is None or floors[0] <= best or not observed.is_share:
            return models
        if models.improvements(points).max() > HOPELESS:
            return models
        return Acquisition(observed, seen, floors=(best - NEAR,))

    def _best(
        self,
        drawn: Sequence[SpacePoint],
        space: Suggesting,
        random: Random,
        given: Mapping[str, object],
        known: KnownCosts,
        closed: Set[object],
        look: Callable[[], Observed],
        *,
        near: bool,
    ) -> SpacePoint | None:
        """Return the best point with known costs, among the drawn ones, their neighbours and those of the front.

        closed: candidates that need no further trial. look: returns what is known by now. near: improve the front near
        the best quality.
        """
        observed = look()
        front = [observed.params[row] for row in observed.front] or [point.params for point in drawn]
        others = [neighbour(space, random, random.choice(front), given) for _ in range(NEIGHBOURS if front else 0)]
        points = _fresh([*drawn, *others], closed)
        if not points:
            return None
        seen = {name: kind for point in points for name, kind in point.distributions.items()}
        models = self._models(observed, seen, points, near=near)
        rank = partial(_ranked, prior=self._prior, trials=len(closed))
        best = rank(points, models)[:BEST]
        others = [neighbour(space, random, random.choice(best).params, given) for _ in range(NEIGHBOURS)]
        points = _fresh([*best, *others], closed)
        for _ in range(LOOKS):
            first = rank(points, models)[0]
            if not known.lacks(first):
                return first
            known.look_up([first])
            models = self._models(look(), seen, points, near=near)
        return rank([each for each in points if not known.lacks(each)] or points, models)[0]


def _columns(earlier: Sequence[Earlier]) -> Iterable[tuple[float | None, ...]]:
    """Return the values of all candidates by objective."""
    return zip(*(each.values for each in earlier), strict=True)


def _closed(space: Suggesting | None, trials: Mapping[Key, FrozenTrial]) -> set[object]:
    """Return the candidates that need no further trial; their keys without a space."""
    return {
        key if space is None else _identity(_candidate(space, tuple(trial.params.items())), key)
        for key, trial in trials.items()
        if is_closed(trial)
    }


def _fresh(points: Sequence[SpacePoint], closed: Set[object]) -> list[SpacePoint]:
    """Return each candidate once, without closed ones. Several parameters may describe one candidate."""
    fresh = {_identity(point.candidate, point.key): point for point in points}
    return [point for identity, point in fresh.items() if identity not in closed]


def _identity(candidate: object, key: Key) -> object:
    """Return a candidate if it can be compared, else the key of its parameters."""
    return key if candidate is None or type(candidate).__hash__ is None else candidate


# Cached: the trials of a study are the same at each proposal.
@lru_cache(maxsize=8192)
def _candidate(space: Suggesting, params: tuple[tuple[str, Any], ...]) -> object:
    """Return the candidate of a trial; None if the space has no such point."""
    point = point_of(space, dict(params))
    return None if point is None else point.candidate


def _ranked(
    points: Sequence[SpacePoint], models: Acquisition, *, prior: Mapping[str, Any], trials: int
) -> list[SpacePoint]:
    """Return the points in the order of their improvement times the factor of the guess, the largest first."""
    worth = models.improvements(points)
    if prior:
        worth = np.log(np.maximum(worth, TINY)) + logarithms(points, prior, trials=trials)
    return [points[row] for row in np.argsort(-worth, kind="stable")]


def _farthest(points: Sequence[SpacePoint], tried: Sequence[Mapping[str, Any]]) -> SpacePoint:
    """Return the point farthest from its nearest trial; the first one before there are trials."""
    if not tried:
        return points[0]
    distributions = {name: kind for point in points for name, kind in point.distributions.items()}
    places, unordered = features([*tried, *(point.params for point in points)], distributions)
    apart = np.sqrt(differences(places[len(tried) :], places[: len(tried)], unordered)).sum(axis=-1)
    return points[int(apart.min(axis=1).argmax())]
