"""Who proposes candidates: always chosen explicitly, always seeded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler

from nas_compress.errors import require_known


@dataclass(frozen=True, kw_only=True)
class SamplerKind:
    """A sampler by name. `make` gets the seed and the number of trials that start at random."""

    summary: str
    make: Callable[[int, int], BaseSampler]


SAMPLERS: Mapping[str, SamplerKind] = {
    "tpe": SamplerKind(
        summary="tree-structured Parzen estimator, each parameter on its own (the default)",
        make=lambda seed, startup: TPESampler(seed=seed, n_startup_trials=startup),
    ),
    "nsga2": SamplerKind(
        summary="evolutionary, population 20",
        make=lambda seed, startup: NSGAIISampler(seed=seed, population_size=20),
    ),
    "random": SamplerKind(
        summary="uniform, the control of every other sampler",
        make=lambda seed, startup: RandomSampler(seed=seed),
    ),
}


def make_sampler(name: str, *, seed: int, startup_trials: int, where: str = "") -> BaseSampler:
    """The sampler of that name."""
    require_known("a sampler", name, SAMPLERS, where)
    return SAMPLERS[name].make(seed, startup_trials)
