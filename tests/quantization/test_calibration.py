from __future__ import annotations

import pytest
import torch

from nas_compress.quantization.arithmetic import activation_range, largest_activation, nearest_scale, quantize_weights
from nas_compress.quantization.calibration import RANGE_RULES, RangeObserver, min_max, mse, percentile
from nas_compress.values.precision import DYNAMIC, RANGES


def test_the_table_has_every_name_that_a_candidate_may_use() -> None:
    assert (*RANGE_RULES, DYNAMIC) == RANGES


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


def observed(*tensors: torch.Tensor) -> torch.Tensor:
    """What an observer keeps of them, without the ends."""
    observer = RangeObserver()
    for values in tensors:
        assert observer(values) is values
    return observer.values


@pytest.mark.parametrize(
    "shape", [(256, 64, 7, 7), (256, 8, 7, 7), (256, 120, 7, 7), (256, 16, 14, 14), (128, 50, 128)], ids=str
)
@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels last"])
def test_calibration_sees_all_parts_of_a_tensor_alike(shape: tuple[int, ...], last: bool) -> None:
    for number, length in enumerate(shape):
        places = torch.arange(length).view(-1, *[1] * (len(shape) - number - 1)).expand(shape)
        values = places.float()
        if last and len(shape) == 4:
            values = values.contiguous(memory_format=torch.channels_last)
        counts = torch.bincount(observed(values)[:-2].long(), minlength=length)
        assert len(counts) == length and counts.sum() == RangeObserver.KEPT
        assert 0.5 * counts.max() < counts.float().mean() < 2 * counts.min(), (number, counts.tolist())


def test_calibration_sees_the_same_places_in_every_run_and_others_in_every_batch() -> None:
    values = torch.arange(400_000.0)
    twice = observed(values, values)
    assert torch.equal(twice, observed(values, values))
    first, second = twice.split(len(twice) // 2)
    assert first[-2:].tolist() == [0, 399_999] and not torch.equal(first, second)
    assert torch.equal(observed(values[:16_384]).sort().values[1:-1], values[:16_384]), "a small tensor as a whole"
