"""Statistics of repetitions: mean, standard deviation and pairs within noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from statistics import fmean, stdev

from scipy.stats import ttest_ind_from_stats

from nas_compress.runs.confirmation import STUDENT, Label, Summary
from nas_compress.values.metrics.table import METRICS
from nas_compress.values.outcome import Measured, Outcome

LEVEL = 0.05
"""Significance level of Welch's test for the difference of two members."""


def summarise(
    trial: int,
    role: str,
    outcomes: Sequence[Outcome],
    test: Sequence[float],
    *,
    metric: str,
    searched: Measured | None,
    test_shipped: float | None,
    exit_point: int | None = None,
) -> Summary:
    """Summarise one member in one role over its seeds.

    metric: the name of the compared metric. outcomes: one per seed. test: the metric on the test split, one value per
    trained outcome, in the same order. searched: the figures by which the search chose the member. exit_point: of the
    member, with whose figures the outcomes are given.
    """
    done = [outcome for outcome in outcomes if outcome.state == "trained" and outcome.measured]
    measured = [outcome.measured for outcome in done if outcome.measured]
    validation = [found.figure(metric) for found in measured if metric in found.figures]
    return Summary(
        trial=trial,
        role=role,
        seeds=len(done),
        failed=len(outcomes) - len(done),
        epochs=max((outcome.epochs for outcome in done), default=0),
        validation_search=searched.figures.get(metric) if searched else None,
        validation_mean=fmean(validation) if validation else None,
        validation_std=stdev(validation) if len(validation) > 1 else None,
        test_shipped=test_shipped,
        test_mean=fmean(test) if test else None,
        test_std=stdev(test) if len(test) > 1 else None,
        figures=_costs(measured),
        exit_point=exit_point,
    )


def _costs(measured: Sequence[Measured]) -> dict[str, float]:
    """Means of the metrics that are known before training; counts are rounded."""
    known = [
        m for m in METRICS.values() if m.known_before_training and all(m.name in each.figures for each in measured)
    ]
    means = {m.name: fmean(each.figure(m.name) for each in measured) for m in known if measured}
    return {name: mean if METRICS[name].digits else round(mean) for name, mean in means.items()}


def alike(rows: Sequence[Summary]) -> tuple[tuple[Label, Label], ...]:
    """Pairs of members without a significant difference on the test split.

    Welch's test (Welch 1947, doi 10.1093/biomet/34.1-2.28) at LEVEL. Members with a single seed are left out.
    """
    known = [row for row in rows if row.role == STUDENT and row.test_std is not None]
    return tuple((one.label, other.label) for one, other in combinations(known, 2) if _probability(one, other) >= LEVEL)


def _probability(one: Summary, other: Summary) -> float:
    """The p-value of the difference between the means of two members."""
    if not one.test_std and not other.test_std:  # Welch's test needs a spread
        return float(one.test_mean == other.test_mean)
    found = ttest_ind_from_stats(
        one.test_mean, one.test_std, one.seeds, other.test_mean, other.test_std, other.seeds, equal_var=False
    )
    return 1.0 if math.isnan(found.pvalue) else float(found.pvalue)
