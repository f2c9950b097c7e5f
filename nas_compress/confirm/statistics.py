"""Repetitions in numbers: mean, standard deviation, and which members cannot be told apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from statistics import fmean, stdev

from scipy.stats import ttest_ind_from_stats

from nas_compress.runs.confirmation import STUDENT, Summary
from nas_compress.values.outcome import Measured, Outcome

LEVEL = 0.05
"""Two members are told apart where Welch's test gives less than this probability."""


def summarise(
    trial: int,
    role: str,
    outcomes: Sequence[Outcome],
    test: Sequence[float],
    *,
    searched: Measured | None,
    test_shipped: float | None,
) -> Summary:
    """One row: `outcomes` over seeds, `test` the test accuracies of those that were trained, in the same order."""
    done = [outcome for outcome in outcomes if outcome.state == "trained" and outcome.measured]
    measured = [outcome.measured for outcome in done if outcome.measured]
    validation = [figures.accuracy for figures in measured if figures.accuracy is not None]
    return Summary(
        trial=trial,
        role=role,
        seeds=len(done),
        failed=len(outcomes) - len(done),
        epochs=max((outcome.epochs for outcome in done), default=0),
        validation_search=searched.accuracy if searched else None,
        validation_mean=fmean(validation) if validation else None,
        validation_std=stdev(validation) if len(validation) > 1 else None,
        test_shipped=test_shipped,
        test_mean=fmean(test) if test else None,
        test_std=stdev(test) if len(test) > 1 else None,
        latency_ms=fmean(figures.latency_ms for figures in measured) if measured else None,
        size_bytes=measured[0].size_bytes if measured else None,
        parameters=measured[0].parameters if measured else None,
    )


def alike(rows: Sequence[Summary]) -> tuple[tuple[int, int], ...]:
    """The pairs of members whose mean test accuracies lie within noise: Welch's test gives LEVEL or more.

    Welch 1947, doi 10.1093/biomet/34.1-2.28. A member with a single seed is in no pair.
    """
    known = [row for row in rows if row.role == STUDENT and row.test_std is not None]
    return tuple((one.trial, other.trial) for one, other in combinations(known, 2) if _probability(one, other) >= LEVEL)


def _probability(one: Summary, other: Summary) -> float:
    """The probability of so large a difference of means where there is none."""
    if not one.test_std and not other.test_std:  # no spread at all: equal or not
        return float(one.test_mean == other.test_mean)
    found = ttest_ind_from_stats(
        one.test_mean, one.test_std, one.seeds, other.test_mean, other.test_std, other.seeds, equal_var=False
    )
    return 1.0 if math.isnan(found.pvalue) else float(found.pvalue)
