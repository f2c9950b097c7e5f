"""Samplers by name. A sampler proposes candidates; it is always chosen explicitly and always seeded."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from optuna.distributions import BaseDistribution
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
from optuna.study import Study
from optuna.trial import FrozenTrial

from nas_compress.errors import require_known
from nas_compress.search.samplers.cost_cache import Costs
from nas_compress.search.samplers.ehvi_sampler import EHVISampler
from nas_compress.search.samplers.proposals import Suggesting


@dataclass(frozen=True, kw_only=True)
class SamplerContext:
    """Input of a sampler.

    seed: seed of one proposal.
    study_seed: seed of the study, for samplers with one sequence over all proposals.
    startup_trials: number of random trials before a model is used.
    space: the function of the search space, if known.
    costs: looks up a candidate's costs before training, if they can be known.
    floor: smallest quality of interest; teacher: that of the teacher; prior: the user's guess of good parameters; for
    samplers that can use them.
    """

    seed: int
    study_seed: int
    startup_trials: int
    space: Suggesting | None = None
    costs: Costs | None = None
    floor: float | None = None
    teacher: float | None = None
    prior: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class SamplerKind:
    """Entry of the sampler table.

    cost: time of one proposal with 13 parameters, 3 objectives and one budget.
    make: builds the sampler for one proposal.
    warning: line shown at the start of a run with this sampler.
    rule: default stopping rule of studies with this sampler.
    """

    summary: str
    source: str
    cost: str
    make: Callable[[SamplerContext], BaseSampler]
    warning: str | None = None
    rule: str = "behind"


def _ehvi(context: SamplerContext) -> BaseSampler:
    return EHVISampler(
        seed=context.seed,
        startup_trials=context.startup_trials,
        space=context.space,
        costs=context.costs,
        floor=context.floor,
        teacher=context.teacher,
        prior=context.prior,
    )


def _tpe(context: SamplerContext) -> BaseSampler:
    return TPESampler(seed=context.seed, n_startup_trials=context.startup_trials)


def _nsga2(context: SamplerContext) -> BaseSampler:
    return NSGAIISampler(seed=context.seed, population_size=20)


def _nsga3(context: SamplerContext) -> BaseSampler:
    return NSGAIIISampler(seed=context.seed, population_size=20)


class _GP(GPSampler):
    """Optuna's sampler without its warning about infinite values, such as those of untrained candidates.

    It replaces them by the worst finite value.
    """

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Clip non-finite values")
            return super().sample_relative(study, trial, search_space)


def _gp(context: SamplerContext) -> BaseSampler:
    return _GP(seed=context.seed, n_startup_trials=context.startup_trials)


def _qmc(context: SamplerContext) -> BaseSampler:
    return QMCSampler(
        seed=context.study_seed,
        scramble=True,
        independent_sampler=RandomSampler(seed=context.seed),
        warn_independent_sampling=False,
    )


def _random(context: SamplerContext) -> BaseSampler:
    return RandomSampler(seed=context.seed)


_TPE = SamplerKind(
    summary="tree-structured Parzen estimator, each parameter on its own",
    source="Bergstra et al. 2011; several objectives: Ozaki et al. 2022, doi 10.1613/jair.1.13188; Optuna",
    cost="131 ms at 500 finished trials, 485 ms at 2,000",
    make=_tpe,
)

SAMPLERS: Mapping[str, SamplerKind] = {
    "ehvi": SamplerKind(
        summary="Gaussian processes and expected hypervolume, with costs looked up before training (the default)",
        source="Emmerich et al. 2006, doi 10.1109/TEVC.2005.859463; Yang et al. 2019, doi 10.1016/j.swevo.2018.10.007",
        cost="52 ms at 500 finished trials, 77 ms at 2,000; looking up one candidate takes 0.6 s on digits",
        rule="none",  # it proposes few candidates that are not worth their training
        make=_ehvi,
    ),
    "tpe": _TPE,
    "optuna_tpe": replace(_TPE, summary="another name of tpe, for older study files"),
    "nsga2": SamplerKind(
        summary="evolutionary, population 20",
        source="Deb et al. 2002, doi 10.1109/4235.996017; Optuna",
        cost="19 ms at 500 finished trials, 77 ms at 2,000",
        make=_nsga2,
    ),
    "nsga3": SamplerKind(
        summary="evolutionary with reference points, population 20; for four or more objectives",
        source="Deb and Jain 2014, doi 10.1109/TEVC.2013.2281535; Optuna",
        cost="19 ms at 500 finished trials, 82 ms at 2,000",
        make=_nsga3,
    ),
    "gp": SamplerKind(
        summary="Gaussian processes and expected hypervolume, for few trials that take minutes each",
        source="Daulton et al. 2020, arXiv 2006.05078; Optuna",
        cost="8 to 16 s at 100 to 500 finished trials",
        make=_gp,
        warning="the sampler gp takes 8 to 16 s for each proposal at 100 to 500 trials, and draws parameters at random "
        "if not every candidate has them; tpe takes less than 1 s",
    ),
    "qmc": SamplerKind(
        summary="a scrambled Sobol sequence: covers the space evenly, learns nothing",
        source="Sobol 1967, doi 10.1016/0041-5553(67)90144-9; Optuna",
        cost="3 ms at any number of trials",
        make=_qmc,
    ),
    "random": SamplerKind(
        summary="uniform, the control of every other sampler",
        source="",
        cost="1 ms at any number of trials",
        make=_random,
    ),
}


def make_sampler(name: str, context: SamplerContext) -> BaseSampler:
    """Make the sampler `name`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # nsga3 and qmc are experimental in Optuna
        return SAMPLERS[name].make(context)


def require_sampler(name: str, where: str) -> None:
    """Raise RequestError if there is no sampler `name`."""
    require_known("a sampler", name, SAMPLERS, where)


def proposal_context(
    *,
    study_seed: int,
    finished: int,
    startup_trials: int,
    space: Suggesting | None = None,
    costs: Costs | None = None,
    floor: float | None = None,
    teacher: float | None = None,
    prior: Mapping[str, Any] | None = None,
) -> SamplerContext:
    """Return the sampler's input for the proposal after `finished` trials.

    Each proposal has its own seed: a resumed study proposes the same candidates as an uninterrupted one.
    """
    return SamplerContext(
        seed=(study_seed * 1_000_003 + finished) % 2**32,
        study_seed=study_seed,
        startup_trials=startup_trials,
        space=space,
        costs=costs,
        floor=floor,
        teacher=teacher,
        prior=prior,
    )
