"""Transforms of single samples: laws that all keep, and results worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from nas_compress.data.augment.images import ATTEMPTS, Crop, Erase, Flip, Shift
from nas_compress.data.augment.spectrograms import SpecAugment
from nas_compress.data.augment.transform_protocol import Transform
from nas_compress.errors import RequestError
from nas_compress.values.signature import TensorSpec

MEAN = torch.tensor([7, 9]).reshape(1, 2, 1, 1)

TRANSFORMS: dict[str, Transform] = {
    "shift": Shift(pixels=2),
    "flip": Flip(),
    "crop": Crop(least_area=0.25),
    "erase": Erase(probability=0.5),
    "spec_augment": SpecAugment(frequency=3, time=4),
}


def images(count: int = 6, kind: torch.dtype = torch.uint8) -> Tensor:
    return torch.randint(0, 256, (count, 2, 8, 10), generator=torch.Generator().manual_seed(0)).to(kind)


def drawn(transform: Transform, count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, transform.numbers, generator=torch.Generator().manual_seed(seed)).double()


def applied(transform: Transform, values: Tensor, numbers: Tensor) -> Tensor:
    return transform.apply(values, numbers, MEAN.to(values.dtype))


@pytest.mark.parametrize("kind", [torch.uint8, torch.int16, torch.float16, torch.float32])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_type_shape_and_input_stay(name: str, kind: torch.dtype) -> None:
    values, transform = images(kind=kind), TRANSFORMS[name]
    before = values.clone()
    changed = applied(transform, values, drawn(transform, 6))
    assert changed.shape == values.shape and changed.dtype == kind
    assert torch.equal(values, before) and not torch.equal(changed, values)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_sample_is_changed_in_a_batch_as_alone(name: str) -> None:
    transform, values = TRANSFORMS[name], images(kind=torch.float32)
    numbers = drawn(transform, 6)
    singly = [applied(transform, values[i : i + 1], numbers[i : i + 1]) for i in range(6)]
    assert torch.equal(applied(transform, values, numbers), torch.cat(singly))


def test_shifts_reach_every_place_in_the_frame_and_leave_zeros() -> None:
    values = torch.full((25, 2, 8, 10), 5, dtype=torch.uint8)
    numbers = torch.tensor([[(row + 0.5) / 5, (column + 0.5) / 5] for row in range(5) for column in range(5)])
    shifted = applied(Shift(pixels=2), values, numbers.double())
    places = {(int(image[0].any(1).int().argmax()), int(image[0].any(0).int().argmax())) for image in shifted}
    assert places == {(row, column) for row in range(3) for column in range(3)}
    assert sorted(int(image[0].sum()) // 5 for image in shifted) == sorted(
        (8 - abs(row)) * (10 - abs(column)) for row in range(-2, 3) for column in range(-2, 3)
    )
    assert torch.equal(shifted[12], values[12])


def test_numbers_below_a_half_mirror() -> None:
    values = images(2)
    flipped = applied(Flip(), values, torch.tensor([[0.49], [0.5]], dtype=torch.float64))
    assert torch.equal(flipped[0], values[0].flip(2)) and torch.equal(flipped[1], values[1])


def crop_numbers(area: float, aspect: float, top: float, left: float) -> Tensor:
    """Numbers of a crop: share of the area, aspect, and relative place."""
    low, high = math.log(3 / 4), math.log(4 / 3)
    first = [(area - 0.1) / 0.9, (math.log(aspect) - low) / (high - low)]
    return torch.tensor([[*first, *[0.0] * (2 * ATTEMPTS - 2), top, left]], dtype=torch.float64)


def test_a_crop_is_the_part_resized_by_interpolation() -> None:
    values = images(1, torch.float32)
    # a quarter of 80 pixels at aspect 1.25: 4 rows and 5 columns, in the last of 5 and the first of 6 places
    found = applied(Crop(least_area=0.1), values, crop_numbers(0.25, 1.25, 0.99, 0.0))
    part = values[:, :, 4:8, 0:5]
    resized = F.interpolate(part, size=(8, 10), mode="bilinear", align_corners=False)
    torch.testing.assert_close(found, resized, rtol=1e-4, atol=1e-3)


def test_crops_that_never_fit_take_the_largest_allowed_part_in_an_image_of_another_aspect() -> None:
    values = torch.arange(40.0).reshape(1, 1, 2, 20)
    # 99.9 % of the area at aspects up to 4/3 never fits into 2 x 20; 2 x round(2 * 4/3) does
    numbers = torch.tensor([[0.999, 0.5] * ATTEMPTS + [0.0, 0.0]], dtype=torch.float64)
    found = Crop(least_area=0.1).apply(values, numbers, torch.zeros(1, 1, 1, 1))
    part = values[:, :, :, 0:3]
    torch.testing.assert_close(found, F.interpolate(part, size=(2, 20), mode="bilinear", align_corners=False))


def test_crops_have_areas_and_aspects_of_the_range() -> None:
    """A ramp along each axis shows the sides of a crop by its slopes."""
    size = 64
    ramp = torch.arange(size, dtype=torch.float32)
    values = torch.stack([ramp[:, None].expand(size, size), ramp.expand(size, size)]).expand(400, 2, size, size)
    crop = Crop(least_area=0.25)
    found = applied(crop, values, drawn(crop, 400))
    rows = (found[:, 0, 40, 0] - found[:, 0, 24, 0]) / 16 * size
    columns = (found[:, 1, 0, 40] - found[:, 1, 0, 24]) / 16 * size
    area, aspect = rows * columns / size**2, columns / rows
    assert 0.24 <= float(area.min()) < 0.3 and 0.95 < float(area.max()) <= 1.0
    assert 0.72 <= float(aspect.min()) < 0.8 and 1.25 < float(aspect.max()) <= 1.4
    assert 0.5 < float(area.mean()) < 0.65


def test_an_erased_rectangle_has_the_mean_of_each_channel() -> None:
    values = images(1)
    # a quarter of 80 pixels at height over width 0.8: 4 rows and 5 columns
    low, high = math.log(0.3), math.log(1 / 0.3)
    first = [(0.25 - 0.02) / 0.38, (math.log(0.8) - low) / (high - low)]
    numbers = torch.tensor([[*first, *[0.0] * (2 * ATTEMPTS - 2), 0.99, 0.0, 0.2]], dtype=torch.float64)
    found = applied(Erase(probability=0.5), values, numbers)
    expected = values.clone()
    expected[0, 0, 4:8, 0:5], expected[0, 1, 4:8, 0:5] = 7, 9
    assert torch.equal(found, expected)
    numbers[0, -1] = 0.5
    assert torch.equal(applied(Erase(probability=0.5), values, numbers), values)


def test_erased_shares_follow_the_probability_and_the_range() -> None:
    values, erase = torch.zeros(1000, 2, 32, 32), Erase(probability=0.7)
    erased = (applied(erase, values, drawn(erase, 1000))[:, 0] == 7).flatten(1).float().mean(dim=1)
    some = erased[erased > 0]
    assert 0.65 < len(some) / 1000 < 0.75
    assert 0.01 < float(some.min()) < 0.05 and 0.33 < float(some.max()) < 0.43 and 0.17 < float(some.mean()) < 0.23


def test_masks_lie_in_bands_and_spans_of_drawn_size_and_place() -> None:
    values = images(1)
    # heights 3 and 0 of at most 3; the band begins at the last of 6 places. Lengths 2 and 0 of at most 4 at place 0
    numbers = torch.tensor([[0.99, 0.99, 0.0, 0.5, 0.5, 0.0, 0.0, 0.5]], dtype=torch.float64)
    found = applied(SpecAugment(frequency=3, time=4), values, numbers)
    expected = values.clone()
    for channel, mean in enumerate((7, 9)):
        expected[0, channel, 5:8, :] = mean
        expected[0, channel, :, 0:2] = mean
    assert torch.equal(found, expected)


def test_series_are_masked_by_the_mean_of_their_row_and_at_most_by_a_share_of_the_time() -> None:
    values, masks = torch.zeros(200, 6, 20), SpecAugment(time=15, time_masks=1, time_share=0.25)
    mean = torch.arange(1.0, 7).reshape(1, 6, 1)
    found = masks.apply(values, drawn(masks, 200), mean)
    lengths = (found[:, 0] != 0).sum(dim=1)
    assert set(lengths.tolist()) == set(range(6))
    assert torch.equal(found[lengths == 5][0].unique(), torch.arange(0.0, 7))


@pytest.mark.parametrize(
    ("transform", "shape", "message"),
    [
        (Shift(pixels=8), ("N", 1, 8, 9), r"0 <= shift < 8 \(the shorter side\) must hold, but got shift=8"),
        (Flip(), ("N", 16), r"flip needs images \(N, C, H, W\), but got input: \('N', 16\)"),
        (Crop(least_area=0.5), ("N", 3, 16), "crop needs images"),
        (Erase(probability=0.5), ("N", "T"), "erase needs images"),
        (SpecAugment(time=3), ("N", 16), "spec_augment needs spectrograms"),
        (SpecAugment(frequency=8), ("N", 8, 100), r"spec_augment.frequency < 8 \(of input\) must hold, but got 8"),
        (SpecAugment(time=100), ("N", 1, 8, 100), r"spec_augment.time < 100 \(of input\) must hold, but got 100"),
    ],
)
def test_inputs_of_another_kind_are_refused(transform: Transform, shape: tuple[int | str, ...], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        transform.check((TensorSpec(name="input", dtype="float32", shape=shape),))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Crop(least_area=1.0), r"0 < crop < 1 \(smallest share of the area\) must hold, but got crop=1.0"),
        (lambda: Erase(probability=0.0), r"0 < erase <= 1 \(a probability\) must hold, but got erase=0.0"),
        (lambda: SpecAugment(), "spec_augment must have a frequency or time above 0, but got frequency=0, time=0"),
        (lambda: SpecAugment(time=1, time_share=0.0), "0 < time_share <= 1 must hold, but got 2, 2 and 0.0"),
    ],
)
def test_settings_out_of_range_are_refused(make, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        make()
