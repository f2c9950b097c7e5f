"""How much of a space keeps each budget, judged on random candidates before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from scipy.stats import binomtest

from nas_compress.measurement.macs import count_macs
from nas_compress.search.preflight.feasibility import Sized, measure_untrained
from nas_compress.search.setup import Ingredients
from nas_compress.values.metrics import Budget

MOST_COUNTED, MOST_TIMED = 60, 8
"""Candidates whose multiply-adds are counted, and whose files are written and timed: both take a while each."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """`kept` of `judged` random candidates keep a budget; `how` says by what they were judged."""

    budget: Budget
    kept: int
    judged: int
    how: str

    @property
    def fraction(self) -> float:
        """The share of the judged candidates."""
        return self.kept / self.judged

    @property
    def interval(self) -> tuple[float, float]:
        """Where the share of the whole space lies with 95 % confidence (Wilson 1927)."""
        found = binomtest(self.kept, self.judged).proportion_ci(method="wilson")
        return float(found.low), float(found.high)


def budget_shares(parts: Ingredients, sized: Sequence[Sized]) -> tuple[Share, ...]:
    """The share of each budget but accuracy, which only training can tell. `sized` is ordered by size."""
    return tuple(_share(budget, parts, sized) for budget in parts.spec.budget_list if budget.name != "accuracy")


def _share(budget: Budget, parts: Ingredients, sized: Sequence[Sized]) -> Share:
    judge, most, how = _judges(parts)[budget.name]
    few = _evenly(sized, most)
    kept = sum(budget.violation(judge(item)) <= 0 for item in few)
    return Share(budget=budget, kept=kept, judged=len(few), how=how)


Judge = Callable[[Sized], float]


def _judges(parts: Ingredients) -> Mapping[str, tuple[Judge, int, str]]:
    """By figure: how a candidate is judged, how many at most, and the words for it."""
    shape = parts.dataset.input_shape
    return {
        "size_bytes": (lambda item: item.weight_bytes, 10**9, "by their weights alone"),
        "parameters": (lambda item: item.parameters, 10**9, "counted"),
        "macs": (lambda item: count_macs(parts.build(item.architecture), shape), MOST_COUNTED, "counted"),
        "latency_ms": (
            lambda item: measure_untrained(item.candidate, item.architecture, parts).latency_ms,
            MOST_TIMED,
            "timed",
        ),
    }


def _evenly(sized: Sequence[Sized], most: int) -> list[Sized]:
    """At most so many of them, evenly from the smallest to the largest."""
    count = min(most, len(sized))
    return [sized[(2 * number + 1) * len(sized) // (2 * count)] for number in range(count)]
