"""Who proposes candidates: always chosen explicitly, always seeded."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import (
    BaseSampler,
    GPSampler,
    NSGAIIISampler,
    NSGAIISampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)

from nas_compress.errors import require_known
from nas_compress.search.samplers.ehvi import EHVISampler
from nas_compress.search.samplers.known_costs import Costs
from nas_compress.search.samplers.proposals import Suggesting
from nas_compress.search.samplers.tpe import IndependentTPESampler


@dataclass(frozen=True, kw_only=True)
class SamplerKind:
    """A sampler by name.

    `make` gets the proposal's seed, the number of trials that start at random, and the study's seed, for those that
    draw one sequence over the whole study; also the space's function, and what tells a candidate's costs before
    training, or None. `warning` is said when a run starts with it; `cost` is what a proposal
    takes (13 parameters, 3 objectives, one budget); `rule` is the stopping rule beside it where the study names none.
    """

    summary: str
    source: str
    cost: str
    make: Callable[[int, int, int, Suggesting | None, Costs | None], BaseSampler]
    warning: str | None = None
    rule: str = "behind"


SAMPLERS: Mapping[str, SamplerKind] = {
    "ehvi": SamplerKind(
        summary="Gaussian processes and expected hypervolume, by costs looked up before training (the default)",
        source="Emmerich et al. 2006, doi 10.1109/TEVC.2005.859463; Yang et al. 2019, doi 10.1016/j.swevo.2018.10.007",
        cost="52 ms at 500 finished trials, 77 ms at 2,000; a look at a candidate 0.6 s on digits",
        rule="none",  # it proposes few candidates that are not worth their training
        make=lambda seed, startup, study_seed, space, costs: EHVISampler(
            seed=seed, startup_trials=startup, space=space, costs=costs
        ),
    ),
    "tpe": SamplerKind(
        summary="tree-structured Parzen estimator, each parameter on its own",
        source="Bergstra et al. 2011; several objectives: Ozaki et al. 2022, doi 10.1613/jair.1.13188",
        cost="29 ms at 500 finished trials, 80 ms at 2,000",
        make=lambda seed, startup, study_seed, space, costs: IndependentTPESampler(seed=seed, startup_trials=startup),
    ),
    "optuna_tpe": SamplerKind(
        summary="Optuna's own TPE: proposes like tpe, and sorts all trials again for each parameter",
        source="Ozaki et al. 2022, doi 10.1613/jair.1.13188; Optuna",
        cost="131 ms at 500 finished trials, 485 ms at 2,000",
        make=lambda seed, startup, study_seed, space, costs: TPESampler(seed=seed, n_startup_trials=startup),
    ),
    "nsga2": SamplerKind(
        summary="evolutionary, population 20",
        source="Deb et al. 2002, doi 10.1109/4235.996017; Optuna",
        cost="19 ms at 500 finished trials, 77 ms at 2,000",
        make=lambda seed, startup, study_seed, space, costs: NSGAIISampler(seed=seed, population_size=20),
    ),
    "nsga3": SamplerKind(
        summary="evolutionary with reference points, population 20; for four objectives and more",
        source="Deb and Jain 2014, doi 10.1109/TEVC.2013.2281535; Optuna",
        cost="19 ms at 500 finished trials, 82 ms at 2,000",
        make=lambda seed, startup, study_seed, space, costs: NSGAIIISampler(seed=seed, population_size=20),
    ),
    "gp": SamplerKind(
        summary="Gaussian processes and expected hypervolume: few trials that take minutes each",
        source="Daulton et al. 2020, arXiv 2006.05078; Optuna",
        cost="8 to 16 s at 100 to 500 finished trials",
        make=lambda seed, startup, study_seed, space, costs: GPSampler(seed=seed, n_startup_trials=startup),
        warning="the sampler gp takes 8 to 16 s for each proposal at 100 to 500 trials, and draws parameters that not "
        "every candidate has at random; tpe takes milliseconds",
    ),
    "qmc": SamplerKind(
        summary="a scrambled Sobol sequence: covers the space evenly, learns nothing",
        source="Sobol 1967, doi 10.1016/0041-5553(67)90144-9; Optuna",
        cost="3 ms at any number of trials",
        make=lambda seed, startup, study_seed, space, costs: QMCSampler(
            seed=study_seed,
            scramble=True,
            independent_sampler=RandomSampler(seed=seed),
            warn_independent_sampling=False,
        ),
    ),
    "random": SamplerKind(
        summary="uniform, the control of every other sampler",
        source="",
        cost="1 ms at any number of trials",
        make=lambda seed, startup, study_seed, space, costs: RandomSampler(seed=seed),
    ),
}


def make_sampler(
    name: str,
    *,
    seed: int,
    startup_trials: int,
    study_seed: int | None = None,
    space: Suggesting | None = None,
    costs: Costs | None = None,
    where: str = "",
) -> BaseSampler:
    """The sampler of that name; `study_seed` is `seed` where it is not given.

    `space` is the space's function and `costs` what tells a candidate's costs before training, for those that ask.
    """
    require_known("a sampler", name, SAMPLERS, where)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # nsga3 and qmc may still change: a test would see it
        return SAMPLERS[name].make(seed, startup_trials, seed if study_seed is None else study_seed, space, costs)


def sampler_for(
    name: str,
    *,
    seed: int,
    finished: int,
    startup_trials: int,
    space: Suggesting | None = None,
    costs: Costs | None = None,
) -> BaseSampler:
    """The sampler for the proposal after `finished` trials of a study with that seed.

    One seed a trial: a study that was stopped and goes on proposes what it would have proposed.
    """
    own = (seed * 1_000_003 + finished) % 2**32
    return make_sampler(name, seed=own, startup_trials=startup_trials, study_seed=seed, space=space, costs=costs)
