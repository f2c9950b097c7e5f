import pytest
import torch

from nas_compress.data.augment.protocol import NoAugmentation
from nas_compress.data.augment.shift_and_flip import ShiftAndFlip
from nas_compress.errors import RequestError
from nas_compress.values.signature import TensorSpec

ALL = [ShiftAndFlip(shift=shift, flip=flip) for shift in (0, 1, 2) for flip in (False, True)]


def asymmetric(samples: int = 1) -> torch.Tensor:
    """Images whose pixels are all different and never 0, so that no two views can look alike."""
    generator = torch.Generator().manual_seed(0)
    pixels = [torch.randperm(42, generator=generator) + 1 for _ in range(samples)]
    return torch.stack(pixels).reshape(samples, 1, 6, 7).to(torch.uint8)


def seen(views: ShiftAndFlip, images: torch.Tensor, view: int) -> torch.Tensor:
    return views.over({"input": images}).batch(torch.arange(len(images)), view)["input"]


@pytest.mark.parametrize(
    ("views", "count"),
    [
        (ShiftAndFlip(), 1),
        (ShiftAndFlip(flip=True), 2),
        (ShiftAndFlip(shift=1), 9),
        (ShiftAndFlip(shift=1, flip=True), 18),
        (ShiftAndFlip(shift=2), 25),
    ],
)
def test_the_count_is_shifts_times_mirrors(views: ShiftAndFlip, count: int) -> None:
    assert views.count == count


@pytest.mark.parametrize("views", ALL)
def test_view_0_is_the_image_itself(views: ShiftAndFlip) -> None:
    images = asymmetric(3)
    assert torch.equal(seen(views, images, 0), images)


@pytest.mark.parametrize("views", ALL)
def test_all_views_of_an_asymmetric_image_differ(views: ShiftAndFlip) -> None:
    images = asymmetric()
    looks = {tuple(seen(views, images, view).flatten().tolist()) for view in range(views.count)}
    assert len(looks) == views.count


@pytest.mark.parametrize("views", ALL)
def test_a_batch_is_seen_as_its_samples_are_one_by_one(views: ShiftAndFlip) -> None:
    images = asymmetric(4)
    for view in range(views.count):
        singly = torch.cat([seen(views, images[i : i + 1], view) for i in range(4)])
        assert torch.equal(seen(views, images, view), singly)


@pytest.mark.parametrize("views", ALL)
def test_shape_and_dtype_stay(views: ShiftAndFlip) -> None:
    images = asymmetric(2)
    for view in range(views.count):
        batch = seen(views, images, view)
        assert batch.shape == images.shape
        assert batch.dtype == torch.uint8


def test_pixels_that_move_in_are_0() -> None:
    shifted = seen(ShiftAndFlip(shift=2), torch.full((1, 3, 4, 5), 9, dtype=torch.uint8), 13)  # 2 down, 2 right
    assert int(shifted.sum()) == 9 * 3 * 2 * 3
    assert shifted[:, :, :2].sum() == shifted[..., :2].sum() == 0


def test_shifts_move_a_pixel_to_each_neighbouring_place() -> None:
    image = torch.zeros(1, 1, 5, 5, dtype=torch.uint8)
    image[0, 0, 2, 1] = 7
    views = ShiftAndFlip(shift=1)
    places = {tuple(seen(views, image, view)[0, 0].nonzero()[0].tolist()) for view in range(9)}
    assert places == {(row, column) for row in (1, 2, 3) for column in (0, 1, 2)}


def test_view_1_shows_the_image_one_pixel_to_the_left() -> None:
    images = asymmetric()
    shifted = seen(ShiftAndFlip(shift=1), images, 1)
    assert torch.equal(shifted[..., :-1], images[..., 1:])
    assert int(shifted[..., -1].sum()) == 0


def test_the_second_half_mirrors_the_first() -> None:
    images = asymmetric(2)
    views = ShiftAndFlip(shift=1, flip=True)
    for view in range(9):
        mirrored = seen(views, images, view + 9)
        assert torch.equal(torch.flip(mirrored, dims=(3,)), seen(views, images, view))


def test_flipping_twice_gives_the_image_back() -> None:
    images = asymmetric()
    views = ShiftAndFlip(flip=True)
    once = seen(views, images, 1)
    assert not torch.equal(once, images)
    assert torch.equal(seen(views, once, 1), images)


def test_a_batch_has_the_samples_at_the_index_in_its_order() -> None:
    images, views = asymmetric(4), ShiftAndFlip(shift=1, flip=True)
    batch = views.over({"input": images}).batch(torch.tensor([3, 1]), 12)["input"]
    assert torch.equal(batch, seen(views, images, 12)[[3, 1]])


def test_without_augmentation_inputs_of_any_kind_pass_as_they_are() -> None:
    inputs = {"tokens": torch.arange(6).reshape(3, 2), "scale": torch.rand(3)}
    views = NoAugmentation().over(inputs)
    batch = views.batch(torch.tensor([2, 0]), 0)
    assert batch["tokens"].tolist() == [[4, 5], [0, 1]] and torch.equal(batch["scale"], inputs["scale"][[2, 0]])
    with pytest.raises(RequestError, match="0 <= view < 1 must hold, but got view=1"):
        views.batch(torch.tensor([0]), 1)


def test_shifts_of_what_is_no_image_are_refused() -> None:
    tokens = TensorSpec(name="tokens", dtype="int64", shape=("N", "T"))
    with pytest.raises(RequestError, match="shift and flip need images"):
        ShiftAndFlip(shift=1).check((tokens,))
    NoAugmentation().check((tokens,))


@pytest.mark.parametrize("view", [-1, 9])
def test_a_view_beyond_the_count_is_refused(view: int) -> None:
    views = ShiftAndFlip(shift=1)
    with pytest.raises(RequestError, match=rf"0 <= view < 9 must hold, but got view={view}"):
        seen(views, asymmetric(), view)


def test_a_negative_shift_is_refused() -> None:
    with pytest.raises(RequestError, match="shift >= 0 must hold, but got shift=-1"):
        ShiftAndFlip(shift=-1)
