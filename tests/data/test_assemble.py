from dataclasses import replace

import numpy as np
import pytest

from nas_compress.data.assemble import Parts, assemble, fingerprint, moments
from nas_compress.data.augmentation import Views
from nas_compress.data.dataset import Dataset
from nas_compress.errors import RequestError


def small_parts() -> Parts:
    inputs = np.arange(6 * 4, dtype=np.uint8).reshape(6, 1, 2, 2)
    labels = np.array([0, 1, 0, 1, 0, 1])
    return Parts(
        name="small",
        classes=2,
        train=(inputs, labels),
        validation=(inputs + 1, labels),
        test=(inputs + 2, labels),
    )


def assembled(parts: Parts, *, shift: int = 0, train_samples: int | None = None, seed: int = 0) -> Dataset:
    return assemble(parts, views=Views(shift=shift), train_samples=train_samples, seed=seed, where="here")


def test_moments_of_a_hand_worked_image() -> None:
    # 0, 0, 3, 7: mean 2.5 (rounds to the even 2), variance (6.25 + 6.25 + 0.25 + 20.25) / 4 = 8.25
    mean, std = moments(np.array([0, 0, 3, 7], dtype=np.uint8).reshape(1, 1, 2, 2))
    assert mean == 2
    assert std == pytest.approx(8.25**0.5, rel=1e-12)


def test_moments_over_several_pieces_agree_with_numpy() -> None:
    inputs = np.random.default_rng(0).integers(0, 256, size=(2, 1, 1100, 1000), dtype=np.uint8)
    mean, std = moments(inputs)
    assert mean == round(float(inputs.mean()))
    assert std == pytest.approx(float(inputs.std()), rel=1e-9)


def test_mean_and_spread_are_the_training_splits_alone() -> None:
    parts = small_parts()
    changed = replace(parts, validation=(parts.validation[0] + 100, parts.validation[1]))
    assert (assembled(parts).mean, assembled(parts).std) == (assembled(changed).mean, assembled(changed).std)


def test_mean_and_spread_follow_the_training_subset() -> None:
    data = assembled(small_parts(), train_samples=2)
    pixels = data.train.inputs.double()
    assert data.mean == round(float(pixels.mean()))
    assert data.std == pytest.approx(float(pixels.std(correction=0)))


def test_the_fingerprint_is_16_digits_and_repeats() -> None:
    digits = fingerprint(small_parts(), Views())
    assert len(digits) == 16
    assert int(digits, 16) >= 0
    assert digits == fingerprint(small_parts(), Views())


def test_the_fingerprint_is_of_the_contents_not_the_name() -> None:
    parts = small_parts()
    assert fingerprint(replace(parts, name="another"), Views()) == fingerprint(parts, Views())


def test_whatever_the_search_sees_changes_the_fingerprint() -> None:
    parts = small_parts()
    brighter = parts.train[0].copy()
    brighter[5, 0, 1, 1] += 1
    relabelled = parts.validation[1].copy()
    relabelled[0] = 1
    wider = (parts.train[0].reshape(6, 1, 1, 4), parts.train[1])
    others = [
        (replace(parts, train=(brighter, parts.train[1])), Views()),
        (replace(parts, validation=(parts.validation[0], relabelled)), Views()),
        (replace(parts, train=parts.validation, validation=parts.train), Views()),
        (replace(parts, train=wider), Views()),
        (parts, Views(shift=1)),
        (parts, Views(flip=True)),
    ]
    prints = {fingerprint(*each) for each in [(parts, Views()), *others]}
    assert len(prints) == 1 + len(others)


def test_the_training_subset_changes_the_fingerprint() -> None:
    assert assembled(small_parts(), train_samples=4).fingerprint != assembled(small_parts()).fingerprint


def test_the_subset_keeps_each_image_with_its_label() -> None:
    data = assembled(small_parts(), train_samples=3)
    assert len(data.train) == 3
    for image, label in zip(data.train.inputs, data.train.labels, strict=True):
        assert int(image[0, 0, 0]) // 4 % 2 == int(label)


@pytest.mark.parametrize("count", [1, 7, 0, -3])
def test_a_subset_that_cannot_be_is_refused(count: int) -> None:
    with pytest.raises(RequestError, match=rf"2 \(classes\) <= .* got train_samples={count} \(here\)"):
        assembled(small_parts(), train_samples=count)


def test_constant_images_are_refused() -> None:
    parts = small_parts()
    flat = (np.full_like(parts.train[0], 9), parts.train[1])
    with pytest.raises(RequestError, match=r"must not all be equal, but got 9 everywhere \(here\)"):
        assembled(replace(parts, train=flat))


def test_a_shift_as_large_as_the_image_is_refused() -> None:
    assert assembled(small_parts(), shift=1).views.count == 9
    with pytest.raises(RequestError, match=r"shift < 2 .* got shift=2"):
        assembled(small_parts(), shift=2)


def test_the_input_shape_is_one_samples() -> None:
    assert assembled(small_parts()).input_shape == (1, 2, 2)
