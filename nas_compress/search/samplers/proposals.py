"""Points of a search space, drawn without a trial, and their features for a model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial

from nas_compress.config.suggest import Choice, GivenWalk, Suggest
from nas_compress.values.pareto import Floats

Key = int
Suggesting = Callable[[Suggest], object]
"""A space's function."""


@dataclass(frozen=True, kw_only=True)
class SpacePoint:
    """Parameters of a space with their distributions and the resulting candidate.

    `key` is equal for equal parameters.
    """

    params: Mapping[str, Any]
    distributions: Mapping[str, BaseDistribution]
    candidate: object
    key: Key


def key_of(params: Mapping[str, Any]) -> Key:
    """Return a hash of parameters within this process. Two of 10,000 collide in one of 10^11 studies.

    A space suggests parameters in one order. A hash is stored because thousands are looked up for a proposal, and a
    tuple is hashed at each lookup.
    """
    return hash(tuple(params.items()))


def draw(space: Suggesting, random: Random, given: Mapping[str, object]) -> SpacePoint:
    """Draw a point at random. Given values are used if the space suggests them and allows them."""
    walk = _NotingWalk(random, given)
    candidate = space(walk)
    return SpacePoint(
        params=walk.params, distributions=walk.distributions, candidate=candidate, key=key_of(walk.params)
    )


def point_of(space: Suggesting, params: Mapping[str, object], *, whole: bool = True) -> SpacePoint | None:
    """Return the point with these parameters; None if the space has no such point.

    whole: these are all parameters of the point. Otherwise the others are drawn at random.
    """
    walk = _NotingWalk(Random(0), params)
    candidate = space(walk)
    if walk.refused is not None or walk.unused or (whole and len(walk.params) > len(params)):
        return None
    return SpacePoint(
        params=walk.params, distributions=walk.distributions, candidate=candidate, key=key_of(walk.params)
    )


def neighbour(
    space: Suggesting, random: Random, params: Mapping[str, object], given: Mapping[str, object]
) -> SpacePoint:
    """Draw a point near these parameters: one or two of them are drawn anew. Given values are kept."""
    again = random.sample(sorted(params), min(len(params), random.choice((1, 1, 2))))
    kept = {name: value for name, value in params.items() if name not in again}
    return draw(space, random, {**kept, **given})


def seen_space(trials: Sequence[FrozenTrial]) -> Suggesting | None:
    """Return a space of the common parameters of all trials; None if there are none.

    Distributions are those of the last trial.
    """
    shared = set.intersection(*(set(trial.params) for trial in trials)) if trials else set()
    if not shared:
        return None
    distributions = {name: trials[-1].distributions[name] for name in sorted(shared)}

    def suggest(trial: Suggest) -> None:
        for name, kind in distributions.items():
            if isinstance(kind, CategoricalDistribution):
                trial.suggest_categorical(name, cast("tuple[str, ...]", kind.choices))
            elif isinstance(kind, IntDistribution):
                trial.suggest_int(name, kind.low, kind.high, step=kind.step, log=kind.log)
            elif isinstance(kind, FloatDistribution):
                trial.suggest_float(name, kind.low, kind.high, step=kind.step, log=kind.log)

    return suggest


class _NotingWalk(GivenWalk):
    def __init__(self, random: Random, given: Mapping[str, object]) -> None:
        super().__init__(random, given)
        self.distributions: dict[str, BaseDistribution] = {}

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        self.distributions[name] = _integers(low, high, step, log)
        return super().suggest_int(name, low, high, step=step, log=log)

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        self.distributions[name] = _numbers(low, high, step, log)
        return super().suggest_float(name, low, high, step=step, log=log)

    def suggest_categorical(self, name: str, choices: Sequence[Choice]) -> Choice:
        self.distributions[name] = _choices(tuple(choices), tuple(map(type, choices)))
        return super().suggest_categorical(name, choices)


# Cached: a space asks for the same distributions again and again, and creating one takes time.
@lru_cache(maxsize=1024)
def _integers(low: int, high: int, step: int, log: bool) -> IntDistribution:
    return IntDistribution(low, high, log=log, step=step)


@lru_cache(maxsize=1024)
def _numbers(low: float, high: float, step: float | None, log: bool) -> FloatDistribution:
    return FloatDistribution(low, high, log=log, step=step)


@lru_cache(maxsize=1024)
def _choices(choices: tuple[Any, ...], kinds: tuple[type, ...]) -> CategoricalDistribution:
    """Return the distribution of the choices. The kinds separate 1 from True in the cache."""
    return CategoricalDistribution(choices)


def features(
    rows: Sequence[Mapping[str, Any]], distributions: Mapping[str, BaseDistribution]
) -> tuple[Floats, NDArray[np.bool_]]:
    """Return features (n, d) of n sets of parameters, and a mask (d,) of columns without an order.

    A number is scaled to 0 to 1 within its interval, a choice of numbers by its rank. The feature is nan if a set lacks
    the parameter or has a value outside of its distribution.
    """
    table = np.full((len(rows), len(distributions)), np.nan)
    unordered = np.zeros(len(distributions), dtype=np.bool_)
    for column, (name, distribution) in enumerate(sorted(distributions.items())):
        if isinstance(distribution, CategoricalDistribution):
            places, unordered[column] = _choice_places(distribution.choices)
            table[:, column] = [places.get((type(row.get(name)), row.get(name)), math.nan) for row in rows]
        elif isinstance(distribution, (FloatDistribution, IntDistribution)):
            table[:, column] = _positions([row.get(name, math.nan) for row in rows], distribution)
    return table, unordered


def _choice_places(choices: Sequence[Any]) -> tuple[dict[tuple[type, Any], float], bool]:
    if all(isinstance(choice, (int, float)) and not isinstance(choice, bool) for choice in choices):
        span = max(1, len(choices) - 1)
        return {(type(choice), choice): rank / span for rank, choice in enumerate(sorted(choices))}, False
    return {(type(choice), choice): float(index) for index, choice in enumerate(choices)}, True


def _positions(values: Sequence[float], distribution: FloatDistribution | IntDistribution) -> Floats:
    ends = np.array([distribution.low, distribution.high, *values], dtype=np.float64)
    places = np.log(ends) if distribution.log else ends
    low, high = places[:2]
    return np.asarray((places[2:] - low) / (high - low if high > low else 1.0), dtype=np.float64)
