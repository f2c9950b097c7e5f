from __future__ import annotations

import pytest
import torch

from nas_compress.precision import RANGES
from nas_compress.quantization.arithmetic import activation_range, largest_activation, nearest_scale, quantize_weights
from nas_compress.quantization.ranges import RANGE_RULES, min_max, mse, percentile


def test_the_table_has_every_name_that_a_candidate_may_use() -> None:
    assert tuple(RANGE_RULES) == RANGES


def test_one_outlier_of_a_hundred_thousand_counts_for_min_max_alone() -> None:
    values = torch.cat([torch.linspace(-1, 1, 99_999), torch.tensor([50.0])])
    assert min_max(values, 8) == (-1.0, 50.0)
    lowest, highest = percentile(values, 8)
    assert -1 <= lowest < -0.99 and 0.99 < highest <= 1.01


@pytest.mark.parametrize("bits", [8, 4])
def test_no_other_shrinking_has_a_smaller_error_than_mse(bits: int) -> None:
    values = torch.randn(4000, generator=torch.Generator().manual_seed(0)).relu()

    def error(range_: tuple[float, float]) -> float:
        scale, zero = activation_range(*range_, bits)
        integers = (torch.round(values / scale) + zero).clamp(0, largest_activation(bits))
        return float(((integers - zero) * scale - values).square().mean())

    best = error(mse(values, bits))
    assert best <= error(min_max(values, bits))
    assert all(best <= 1.02 * error((0.0, float(values.max()) * shrink)) for shrink in (0.3, 0.5, 0.7, 0.9))
    if bits == 4:
        assert best < 0.9 * error(min_max(values, bits))


@pytest.mark.parametrize("bits", [6, 4, 3, 2])
def test_the_nearest_scale_is_no_worse_than_any_other(bits: int) -> None:
    weights = torch.randn(5, 300, generator=torch.Generator().manual_seed(1))

    def errors(scale: torch.Tensor) -> torch.Tensor:
        return (quantize_weights(weights, scale, bits) * scale[:, None] - weights).square().sum(dim=1)

    best = nearest_scale(weights, bits)
    for factor in (0.7, 0.9, 1.1, 1.4):
        assert (errors(best) <= 1.001 * errors(best * factor)).all()
