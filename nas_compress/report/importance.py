"""Importance of the searched parameters for each objective, by Optuna's evaluator."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning

from nas_compress.runs.records import Record
from nas_compress.values.metrics.table import Objective

FEWEST_TRIALS = 10
"""Smallest number of trained trials for a meaningful importance."""

Shares = Mapping[str, float]


def parameter_importances(records: Sequence[Record], objectives: Sequence[Objective]) -> dict[str, Shares]:
    """The share of each parameter by objective; the shares of an objective sum to 1.

    Optuna's default evaluator (PED-ANOVA, Watanabe et al. 2023, arXiv 2304.10255) on the trained trials, over the
    parameters common to all of them. Empty with fewer than FEWEST_TRIALS trained trials, or if nothing differs.
    Only the records are needed, not the storage.
    """
    trained = [r for r in records if r.repeats is None and r.outcome.state == "trained" and r.outcome.measured]
    shared = [name for name in (trained[0].params if trained else {}) if all(name in r.params for r in trained)]
    distributions = {name: _distribution([record.params[name] for record in trained]) for name in shared}
    varied = [name for name, distribution in distributions.items() if not distribution.single()]
    if len(trained) < FEWEST_TRIALS or not varied:
        return {}
    study = _study(trained, {name: distributions[name] for name in varied}, objectives)
    shares = {objective.name: _shares(study, index) for index, objective in enumerate(objectives)}
    return {name: found for name, found in shares.items() if found}


def conditional_parameters(records: Sequence[Record]) -> list[str]:
    """The parameters of only some trained trials. Their shares cannot be compared."""
    trained = [record for record in records if record.repeats is None and record.outcome.state == "trained"]
    names = dict.fromkeys(name for record in trained for name in record.params)
    return [name for name in names if not all(name in record.params for record in trained)]


def _study(
    trained: Sequence[Record], distributions: dict[str, BaseDistribution], objectives: Sequence[Objective]
) -> optuna.Study:
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(directions=["minimize"] * len(objectives))
    optuna.logging.set_verbosity(level)
    study.add_trials(
        optuna.create_trial(
            params={name: record.params[name] for name in distributions},
            distributions=distributions,
            values=_costs(record, objectives),
        )
        for record in trained
    )
    return study


def _costs(record: Record, objectives: Sequence[Objective]) -> list[float]:
    measured = record.outcome.measured
    if measured is None:
        raise ValueError(f"trial {record.trial} was not measured")
    return [objective.cost(measured.figure(objective.name)) for objective in objectives]


def _shares(study: optuna.Study, index: int) -> Shares:
    def cost(trial: optuna.trial.FrozenTrial) -> float:
        return float(trial.values[index])

    if len({cost(trial) for trial in study.get_trials(deepcopy=False)}) < 2:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        warnings.filterwarnings("ignore", message="PedAnova")  # that low values count as good: they are costs
        found = optuna.importance.get_param_importances(study, target=cost)
    total = sum(found.values())
    return {name: share / total for name, share in found.items()} if total > 0 else {}


def _distribution(values: Sequence[Any]) -> BaseDistribution:
    """The range of the values: integers, floats, or categories for everything else."""
    kinds = {type(value) for value in values}
    if kinds <= {int}:
        return IntDistribution(min(values), max(values))
    if kinds <= {int, float}:
        return FloatDistribution(float(min(values)), float(max(values)))
    return CategoricalDistribution(sorted(set(values), key=str))
