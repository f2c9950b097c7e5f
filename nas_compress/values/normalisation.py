"""Mean and spread of an input, by which a network normalises it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Normalisation:
    """Statistics of the training split in raw values, over all positions.

    mean: a whole number for integer inputs, so that an integer can represent it. std: standard deviation, > 0.
    """

    mean: int | float
    std: float
