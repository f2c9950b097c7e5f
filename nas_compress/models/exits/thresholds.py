"""Choice of the thresholds of exits: the least expected cost for a stated loss of accuracy."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVELS = (0, 256, 48, 16)
"""Thresholds tried per exit, by the number of exits."""

CLOSEST = 2e-5
"""Least distance of a threshold from the confidence of a sample, because a file differs by the order of additions."""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Thresholds with their figures on the samples of the choice. rates: fraction of the samples per exit."""

    thresholds: tuple[float, ...]
    accuracy: float
    rates: tuple[float, ...]


def choose_thresholds(
    confidence: Sequence[NDArray[np.float32]],
    right: Sequence[NDArray[np.bool_]],
    costs: Sequence[float],
    *,
    accuracy_loss: float,
) -> Chosen:
    """Return the thresholds of the least expected cost among those that lose at most `accuracy_loss`.

    confidence: of each exit before the end, (N,). right: correct answers of each exit and of the end, (N,). costs: of a
    sample that leaves at each exit, and at the end.

    >>> sure = np.array([0.9, 0.8, 0.4], dtype=np.float32)
    >>> early, late = np.array([True, True, False]), np.array([True, True, True])
    >>> choose_thresholds([sure], [early, late], [1.0, 3.0], accuracy_loss=0.0).rates[0].__round__(3)
    0.667
    """
    levels = [_levels(each, LEVELS[len(confidence)]) for each in confidence]
    return _cheapest(itertools.product(*levels), confidence, right, costs, accuracy_loss)


def choose_patience(
    confidence: Sequence[NDArray[np.float32]],
    right: Sequence[NDArray[np.bool_]],
    costs: Sequence[float],
    *,
    accuracy_loss: float,
) -> Chosen:
    """Return the same for `patience`, which has one whole number for all exits. confidence: exits that agree, (N,).

    >>> agree = [np.array([1, 1], dtype=np.float32), np.array([2, 1], dtype=np.float32)]
    >>> right = [np.array([True, False]), np.array([True, True]), np.array([True, True])]
    >>> choose_patience(agree, right, [1.0, 2.0, 3.0], accuracy_loss=0.0).thresholds
    (2.0, 2.0)
    """
    exits = len(confidence)
    return _cheapest(
        [(float(count),) * exits for count in range(1, exits + 1)], confidence, right, costs, accuracy_loss
    )


def _cheapest(
    levels: Iterable[tuple[float, ...]],
    confidence: Sequence[NDArray[np.float32]],
    right: Sequence[NDArray[np.bool_]],
    costs: Sequence[float],
    accuracy_loss: float,
) -> Chosen:
    samples = len(right[-1])
    least = int(right[-1].sum()) - math.floor(accuracy_loss * samples + 1e-9)
    best = _counted((math.inf,) * len(confidence), confidence, right)
    lowest = _cost(best, costs)
    for thresholds in levels:
        found = _counted(thresholds, confidence, right)
        cost = _cost(found, costs)
        if round(found.accuracy * samples) >= least and cost < lowest:
            best, lowest = found, cost
    return best


def _counted(
    thresholds: tuple[float, ...], confidence: Sequence[NDArray[np.float32]], right: Sequence[NDArray[np.bool_]]
) -> Chosen:
    open_ = np.ones(len(right[-1]), dtype=np.bool_)
    correct, taken = 0, []
    for threshold, sure, answers in zip(thresholds, confidence, right[:-1], strict=True):
        leaves = open_ & (sure >= threshold)
        correct += int(np.count_nonzero(leaves & answers))
        taken.append(int(np.count_nonzero(leaves)))
        open_ &= ~leaves
    correct += int(np.count_nonzero(open_ & right[-1]))
    taken.append(int(np.count_nonzero(open_)))
    count = len(open_)
    return Chosen(thresholds=thresholds, accuracy=correct / count, rates=tuple(number / count for number in taken))


def _cost(chosen: Chosen, costs: Sequence[float]) -> float:
    return sum(rate * cost for rate, cost in zip(chosen.rates, costs, strict=True))


def _levels(confidence: NDArray[np.float32], most: int) -> list[float]:
    """Return thresholds between the confidences of samples, at equal numbers of samples, and inf for no exit."""
    rising = np.unique(confidence.astype(np.float64))
    wide = np.flatnonzero(np.diff(rising) > 2 * CLOSEST)
    between = (rising[wide] + rising[wide + 1]) / 2
    places = np.unique(np.linspace(0, len(between) - 1, min(most, len(between))).round().astype(int))
    return [math.inf, *(float(np.float32(between[place])) for place in reversed(places))]
