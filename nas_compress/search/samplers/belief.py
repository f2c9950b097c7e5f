"""The user's guess of good parameters: a factor of the acquisition that fades with the number of trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution

from nas_compress.search.samplers.gaussian_process import differences
from nas_compress.search.samplers.proposals import SpacePoint, Suggesting, draw, features
from nas_compress.values.pareto import Floats

FADING = 10.0
"""Number of trials after which the exponent of the guess is 1 (Hvarfner et al. 2022, arXiv 2204.11051)."""

WIDTH = 0.25
"""Standard deviation around the guess of a parameter with an order, of an interval of length 1."""

OTHER = 0.3
"""Factor of a choice other than the guess."""


def logarithms(points: Sequence[SpacePoint], prior: Mapping[str, Any], *, trials: int) -> Floats:
    """Return the logarithm (n,) of the factor of each point after a number of trials; 0 without a guess.

    The factor is a density around the guess to the power of FADING / trials. So observations overrule a wrong guess.
    """
    kinds: dict[str, BaseDistribution] = {
        name: kind for point in points for name, kind in point.distributions.items() if name in prior
    }
    if not kinds:
        return np.zeros(len(points))
    places, unordered = features([point.params for point in points], kinds)
    guess, _ = features([{name: prior[name] for name in kinds}], kinds)
    apart = differences(places, guess, unordered)[:, 0]
    apart[np.isnan(places) | np.isnan(guess)] = 0.0  # a parameter that the point or its choices lack says nothing
    density = np.where(unordered, apart * np.log(OTHER), -apart / (2 * WIDTH**2))
    return np.asarray(density.sum(axis=1) * FADING / max(trials, 1), dtype=np.float64)


def some_of(prior: Mapping[str, Any], random: Random) -> dict[str, Any]:
    """Return a random part of the guess, each parameter with a chance of one half."""
    return {name: value for name, value in prior.items() if random.random() < 0.5}


def as_suggested(space: Suggesting, prior: Mapping[str, Any]) -> dict[str, Any]:
    """Return the guess with the values of the space: 1.0 for a 1 among choices such as 0.5 and 1.0."""
    params = draw(space, Random(0), prior).params
    return {name: params.get(name, value) for name, value in prior.items()}
