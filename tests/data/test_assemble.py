from dataclasses import replace

import numpy as np
import pytest

from nas_compress.data.assemble import Parts, assemble, fingerprint, image_parts, with_fewer
from nas_compress.data.augment.shift_and_flip import ShiftAndFlip
from nas_compress.data.dataset import Dataset
from nas_compress.data.input_statistics import moments
from nas_compress.errors import RequestError
from nas_compress.tasks.classification import Classification


def small_parts() -> Parts:
    inputs = np.arange(6 * 4, dtype=np.uint8).reshape(6, 1, 2, 2)
    labels = np.array([0, 1, 0, 1, 0, 1])
    return image_parts(
        name="small",
        classes=2,
        train=(inputs, labels),
        validation=(inputs + 1, labels),
        test=(inputs + 2, labels),
    )


def assembled(parts: Parts, *, shift: int = 0, train_samples: int | None = None, seed: int = 0) -> Dataset:
    if train_samples is not None:
        parts = with_fewer(parts, train_samples, seed=seed, where="here")
    return assemble(parts, augmentation=ShiftAndFlip(shift=shift), where="here")


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
    inputs, targets = parts.validation
    changed = replace(parts, validation=({"input": inputs["input"] + 100}, targets))
    assert assembled(parts).normalisation == assembled(changed).normalisation


def test_mean_and_spread_follow_the_training_subset() -> None:
    data = assembled(small_parts(), train_samples=2)
    pixels = data.train.inputs["input"].double()
    assert data.normalisation["input"].mean == round(float(pixels.mean()))
    assert data.normalisation["input"].std == pytest.approx(float(pixels.std(correction=0)))


def test_the_fingerprint_is_16_digits_and_repeats() -> None:
    digits = fingerprint(small_parts(), ShiftAndFlip())
    assert len(digits) == 16
    assert int(digits, 16) >= 0
    assert digits == fingerprint(small_parts(), ShiftAndFlip())


def test_the_fingerprint_is_of_the_contents_not_the_name() -> None:
    parts = small_parts()
    assert fingerprint(replace(parts, name="another"), ShiftAndFlip()) == fingerprint(parts, ShiftAndFlip())


def test_whatever_the_search_sees_changes_the_fingerprint() -> None:
    parts = small_parts()
    (inputs, targets), (more_inputs, more_targets) = parts.train, parts.validation
    brighter = inputs["input"].copy()
    brighter[5, 0, 1, 1] += 1
    relabelled = more_targets["label"].copy()
    relabelled[0] = 1
    wider = ({"input": inputs["input"].reshape(6, 1, 1, 4)}, targets)
    others = [
        (replace(parts, train=({"input": brighter}, targets)), ShiftAndFlip()),
        (replace(parts, validation=(more_inputs, {"label": relabelled})), ShiftAndFlip()),
        (replace(parts, train=parts.validation, validation=parts.train), ShiftAndFlip()),
        (replace(parts, train=wider), ShiftAndFlip()),
        (parts, ShiftAndFlip(shift=1)),
        (parts, ShiftAndFlip(flip=True)),
    ]
    prints = {fingerprint(*each) for each in [(parts, ShiftAndFlip()), *others]}
    assert len(prints) == 1 + len(others)


def test_the_training_subset_changes_the_fingerprint() -> None:
    assert assembled(small_parts(), train_samples=4).fingerprint != assembled(small_parts()).fingerprint


def test_the_subset_keeps_each_image_with_its_label() -> None:
    data = assembled(small_parts(), train_samples=3)
    assert len(data.train) == 3
    for image, label in zip(data.train.inputs["input"], data.train.targets["label"], strict=True):
        assert int(image[0, 0, 0]) // 4 % 2 == int(label)


@pytest.mark.parametrize("count", [1, 7, 0, -3])
def test_a_subset_that_cannot_be_is_refused(count: int) -> None:
    with pytest.raises(RequestError, match=rf"2 \(classes\) <= .* got train_samples={count} \(here\)"):
        assembled(small_parts(), train_samples=count)


def test_constant_images_are_refused() -> None:
    parts = small_parts()
    flat = ({"input": np.full_like(parts.train[0]["input"], 9)}, parts.train[1])
    with pytest.raises(RequestError, match=r"must not all be equal, but got 9 everywhere \(here\)"):
        assembled(replace(parts, train=flat))


def test_a_shift_as_large_as_the_image_is_refused() -> None:
    assert assembled(small_parts(), shift=1).augmentation.count == 9
    with pytest.raises(RequestError, match=r"shift < 2 .* got shift=2"):
        assembled(small_parts(), shift=2)


def test_images_have_their_task() -> None:
    assert assembled(small_parts()).task == Classification.of_images(shape=(1, 2, 2), classes=2)
