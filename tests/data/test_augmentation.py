import pytest
import torch

from nas_compress.data.augmentation import Views
from nas_compress.errors import RequestError

ALL = [Views(shift=shift, flip=flip) for shift in (0, 1, 2) for flip in (False, True)]


def asymmetric(samples: int = 1) -> torch.Tensor:
    """Images whose pixels are all different and never 0, so that no two views can look alike."""
    generator = torch.Generator().manual_seed(0)
    pixels = [torch.randperm(42, generator=generator) + 1 for _ in range(samples)]
    return torch.stack(pixels).reshape(samples, 1, 6, 7).to(torch.uint8)


def seen(views: Views, images: torch.Tensor, view: int) -> torch.Tensor:
    return views.apply(views.pad(images), view)


@pytest.mark.parametrize(
    ("views", "count"),
    [
        (Views(), 1),
        (Views(flip=True), 2),
        (Views(shift=1), 9),
        (Views(shift=1, flip=True), 18),
        (Views(shift=2), 25),
    ],
)
def test_the_count_is_shifts_times_mirrors(views: Views, count: int) -> None:
    assert views.count == count


@pytest.mark.parametrize("views", ALL)
def test_view_0_is_the_image_itself(views: Views) -> None:
    images = asymmetric(3)
    assert torch.equal(seen(views, images, 0), images)


@pytest.mark.parametrize("views", ALL)
def test_all_views_of_an_asymmetric_image_differ(views: Views) -> None:
    images = asymmetric()
    looks = {tuple(seen(views, images, view).flatten().tolist()) for view in range(views.count)}
    assert len(looks) == views.count


@pytest.mark.parametrize("views", ALL)
def test_a_batch_is_seen_as_its_samples_are_one_by_one(views: Views) -> None:
    images = asymmetric(4)
    for view in range(views.count):
        singly = torch.cat([seen(views, images[i : i + 1], view) for i in range(4)])
        assert torch.equal(seen(views, images, view), singly)


@pytest.mark.parametrize("views", ALL)
def test_shape_and_dtype_stay(views: Views) -> None:
    images = asymmetric(2)
    for view in range(views.count):
        batch = seen(views, images, view)
        assert batch.shape == images.shape
        assert batch.dtype == torch.uint8


def test_padding_frames_with_zeros() -> None:
    padded = Views(shift=2).pad(torch.full((1, 3, 4, 5), 9, dtype=torch.uint8))
    assert padded.shape == (1, 3, 8, 9)
    assert padded.dtype == torch.uint8
    assert int(padded.sum()) == 9 * 3 * 4 * 5
    assert padded[:, :, :2].sum() == padded[:, :, :, -2:].sum() == 0


def test_shifts_move_a_pixel_to_each_neighbouring_place() -> None:
    image = torch.zeros(1, 1, 5, 5, dtype=torch.uint8)
    image[0, 0, 2, 1] = 7
    views = Views(shift=1)
    places = {tuple(seen(views, image, view)[0, 0].nonzero()[0].tolist()) for view in range(9)}
    assert places == {(row, column) for row in (1, 2, 3) for column in (0, 1, 2)}


def test_view_1_shows_the_image_one_pixel_to_the_left() -> None:
    images = asymmetric()
    shifted = seen(Views(shift=1), images, 1)
    assert torch.equal(shifted[..., :-1], images[..., 1:])
    assert int(shifted[..., -1].sum()) == 0


def test_the_second_half_mirrors_the_first() -> None:
    images = asymmetric(2)
    views = Views(shift=1, flip=True)
    for view in range(9):
        mirrored = seen(views, images, view + 9)
        assert torch.equal(torch.flip(mirrored, dims=(3,)), seen(views, images, view))


def test_flipping_twice_gives_the_image_back() -> None:
    images = asymmetric()
    views = Views(flip=True)
    once = seen(views, images, 1)
    assert not torch.equal(once, images)
    assert torch.equal(seen(views, once, 1), images)


def test_a_shift_is_a_window_on_the_padded_memory() -> None:
    views = Views(shift=1)
    padded = views.pad(asymmetric())
    assert views.apply(padded, 5).untyped_storage().data_ptr() == padded.untyped_storage().data_ptr()


@pytest.mark.parametrize("view", [-1, 9])
def test_a_view_beyond_the_count_is_refused(view: int) -> None:
    views = Views(shift=1)
    with pytest.raises(RequestError, match=rf"0 <= view < 9 must hold, but got view={view}"):
        views.apply(views.pad(asymmetric()), view)


def test_a_negative_shift_is_refused() -> None:
    with pytest.raises(RequestError, match="shift >= 0 must hold, but got shift=-1"):
        Views(shift=-1)
