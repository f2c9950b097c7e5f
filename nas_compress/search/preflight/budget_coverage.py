"""Fraction of a space within each budget, from random candidates before training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan, nan

from scipy.stats import binomtest

from nas_compress.models.macs import count_macs
from nas_compress.search.preflight.feasibility import Sized, measure_untrained
from nas_compress.search.setup import StudyParts
from nas_compress.values.metrics.table import Budget
from nas_compress.values.outcome import Measured

MOST_COUNTED, MOST_TIMED = 60, 8
"""Limits of candidates with counted multiply-adds and with timed files. Both are slow."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """`kept` of `counted` random candidates keep a budget.

    how: how the figure of a candidate was found, in words.
    """

    budget: Budget
    kept: int
    counted: int
    how: str

    @property
    def fraction(self) -> float:
        """Fraction of the candidates within the budget."""
        return self.kept / self.counted

    @property
    def interval(self) -> tuple[float, float]:
        """95 % confidence interval of the share in the whole space (Wilson 1927)."""
        found = binomtest(self.kept, self.counted).proportion_ci(method="wilson")
        return float(found.low), float(found.high)


def budget_shares(parts: StudyParts, sized: Sequence[Sized]) -> tuple[Share, ...]:
    """Return the share of each budget with a metric known before training. `sized` is ordered by size.

    A budget on a lost device is left out.
    """
    known = [budget for budget in parts.budgets if budget.metric.known_before_training]
    shares = (_share(budget, parts, sized) for budget in known)
    return tuple(share for share in shares if share is not None)


def _share(budget: Budget, parts: StudyParts, sized: Sequence[Sized]) -> Share | None:
    measured = (lambda item: _untrained(item, parts).figures.get(budget.name, nan), MOST_TIMED, "measured")
    timed = (measured[0], MOST_TIMED, "timed")
    cost, most, how = timed if budget.metric.timed else _costs(parts).get(budget.name, measured)
    few = _evenly(sized, most)
    found = [figure for figure in map(cost, few) if not isnan(figure)]
    kept = sum(budget.violation(figure) <= 0 for figure in found)
    return Share(budget=budget, kept=kept, counted=len(found), how=how) if found else None


Cost = Callable[[Sized], float]
"""Computes a metric of a candidate without training."""


def _costs(parts: StudyParts) -> Mapping[str, tuple[Cost, int, str]]:
    """Return the function of each metric, its limit of candidates and a word for it."""

    def macs(item: Sized) -> float:
        data = parts.dataset.fitting(item.architecture.signature)
        return count_macs(parts.build(item.architecture), data.train.first(1).inputs)

    return {
        "size_bytes": (lambda item: item.weight_bytes, 10**9, "by their weights alone"),
        "parameters": (lambda item: item.parameters, 10**9, "counted"),
        "macs": (macs, MOST_COUNTED, "counted"),
    }


def _untrained(item: Sized, parts: StudyParts) -> Measured:
    return measure_untrained(item.candidate, item.architecture, parts)


def _evenly(sized: Sequence[Sized], most: int) -> list[Sized]:
    """Return at most `most` of the candidates, evenly from the smallest to the largest."""
    count = min(most, len(sized))
    return [sized[(2 * number + 1) * len(sized) // (2 * count)] for number in range(count)]
