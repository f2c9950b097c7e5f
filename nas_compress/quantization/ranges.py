"""From values seen at one point to the range that its integers cover: pure functions and their table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from nas_compress.quantization.arithmetic import activation_range, largest_activation

Range = tuple[float, float]

OUTLIERS = 1e-4
"""The fraction of values that `percentile` leaves outside at each end."""

SHRINKS = 80
"""How many ranges `mse` tries, from all values down to a fifth of their extent."""


@dataclass(frozen=True, kw_only=True)
class RangeRule:
    """A way to choose a range from values (n,), which hold the smallest and the largest, and a number of bits."""

    summary: str
    source: str
    choose: Callable[[Tensor, int], Range]


def min_max(values: Tensor, bits: int) -> Range:
    """From the smallest value to the largest."""
    lowest, highest = torch.aminmax(values)
    return float(lowest), float(highest)


def percentile(values: Tensor, bits: int) -> Range:
    """Without the outermost 0.01 % at each end."""
    ends = torch.quantile(values, torch.tensor([OUTLIERS, 1 - OUTLIERS]))
    return float(ends[0]), float(ends[1])


def mse(values: Tensor, bits: int) -> Range:
    """The range, shrunk around 0, whose rounding and clipping together have the least squared error."""
    lowest, highest = min_max(values, bits)
    shrinks = torch.linspace(0.2, 1.0, SHRINKS).tolist()
    errors = [_squared_error(values, (lowest * shrink, highest * shrink), bits) for shrink in shrinks]
    best = shrinks[errors.index(min(errors))]
    return lowest * best, highest * best


def _squared_error(values: Tensor, range_: Range, bits: int) -> float:
    scale, zero_point = activation_range(*range_, bits)
    rounded = (torch.round(values / scale) + zero_point).clamp(0, largest_activation(bits))
    return float((((rounded - zero_point) * scale - values) ** 2).mean())


RANGE_RULES: Mapping[str, RangeRule] = {
    "min_max": RangeRule(summary="all values", source="Jacob et al. 2018, arXiv 1712.05877", choose=min_max),
    "percentile": RangeRule(
        summary="all but the outermost 0.01 % at each end", source="Wu et al. 2020, arXiv 2004.09602", choose=percentile
    ),
    "mse": RangeRule(
        summary="the least squared error, for weights too",
        source="Sung et al. 2015, arXiv 1511.06488",
        choose=mse,
    ),
}
