"""Lengths of samples at which costs are measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Lengths of the samples of a split, as far as costs depend on them.

    strata: lengths in the middle of equal parts of the sorted samples; their mean cost is near that of all samples.
    mean: rounded. p95: length that 95 % of the samples do not exceed.
    """

    strata: tuple[int, ...]
    mean: int
    p95: int


SampleSizes: TypeAlias = Mapping[str, int | Lengths]
"""Sizes of the free dimensions of samples by name, or their lengths."""


def at_strata(sizes: SampleSizes) -> dict[str, int | tuple[int, ...]]:
    """Return the sizes of a measurement whose mean is near that of all samples.

    >>> at_strata({"T": Lengths(strata=(2, 9), mean=5, p95=9), "S": 3})
    {'T': (2, 9), 'S': 3}
    """
    return {name: size.strata if isinstance(size, Lengths) else size for name, size in sizes.items()}


def at_most(sizes: SampleSizes) -> dict[str, int]:
    """Return the sizes of a long sample, at which 95 % of the samples need no more memory.

    >>> at_most({"T": Lengths(strata=(2, 9), mean=5, p95=9), "S": 3})
    {'T': 9, 'S': 3}
    """
    return {name: size.p95 if isinstance(size, Lengths) else size for name, size in sizes.items()}


def have_lengths(sizes: SampleSizes) -> bool:
    """Return True if samples have several lengths."""
    return any(isinstance(size, Lengths) for size in sizes.values())
