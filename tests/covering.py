"""Few combinations in which every pair of values meets."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

Combination = dict[str, Any]


def valid_pairs(
    factors: Mapping[str, Sequence[Any]],
    valid: Callable[[Combination], bool],
    apart: Collection[tuple[str, str]] = (),
) -> set[tuple[str, int, str, int]]:
    """Pairs of (factor, place of its value) that may stand together; `valid` judges also incomplete combinations.

    apart: pairs of factors of which not every pair of values is wanted.
    """
    return {
        (first, i, second, j)
        for first, second in itertools.combinations(factors, 2)
        if (first, second) not in apart
        for i, one in enumerate(factors[first])
        for j, other in enumerate(factors[second])
        if valid({first: one, second: other})
    }


def pairwise(
    factors: Mapping[str, Sequence[Any]],
    valid: Callable[[Combination], bool] = lambda combination: True,
    apart: Collection[tuple[str, str]] = (),
) -> list[Combination]:
    """Combinations that hold every valid pair, found greedily; the same ones each time.

    A pair that no valid combination holds raises ValueError.
    """
    open_pairs = valid_pairs(factors, valid, apart)
    combinations = []
    while open_pairs:
        first, i, second, j = min(open_pairs, key=lambda pair: (list(factors).index(pair[0]), pair[1:]))
        places = _filled({first: i, second: j}, factors, valid, open_pairs)
        open_pairs -= _pairs(places, factors)
        combinations.append({name: factors[name][place] for name, place in places.items()})
    return combinations


def _filled(
    places: dict[str, int],
    factors: Mapping[str, Sequence[Any]],
    valid: Callable[[Combination], bool],
    open_pairs: set[tuple[str, int, str, int]],
) -> dict[str, int]:
    for name, values in factors.items():
        if name in places:
            continue
        possible = [
            place
            for place in range(len(values))
            if valid({key: factors[key][at] for key, at in {**places, name: place}.items()})
        ]
        if not possible:
            raise ValueError(f"no valid {name} beside {places}")
        places[name] = max(possible, key=lambda place: len(_pairs({**places, name: place}, factors) & open_pairs))
    return {name: places[name] for name in factors}


def _pairs(places: Mapping[str, int], factors: Mapping[str, Sequence[Any]]) -> set[tuple[str, int, str, int]]:
    names = [name for name in factors if name in places]
    return {(one, places[one], other, places[other]) for one, other in itertools.combinations(names, 2)}
