import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from nas_compress.data.augment.shift_and_flip import ShiftAndFlip
from nas_compress.data.dataset import Dataset
from nas_compress.data.load_dataset import DATASETS, READERS, TEXT_READERS, load_dataset
from nas_compress.errors import RequestError
from nas_compress.tasks.classification import Classification


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset(name="digits", seed=0)


def images(data: Dataset) -> list[bytes]:
    test = data.test.reveal(purpose="compare splits")
    parts = (data.train, data.validation, test)
    return [
        image.numpy().tobytes() + bytes([int(label)])
        for part in parts
        for image, label in zip(part.inputs["input"], part.targets["label"], strict=True)
    ]


def test_every_data_set_of_the_table_can_be_read() -> None:
    assert set(DATASETS) == set(READERS) | set(TEXT_READERS)
    assert {name for name, info in DATASETS.items() if info.is_text} == set(TEXT_READERS)


def test_digits_are_as_the_table_says(digits: Dataset) -> None:
    info = DATASETS["digits"]
    assert digits.name == "digits"
    assert digits.task == Classification.of_images(shape=info.input_shape, classes=info.classes)
    assert digits.augmentation == ShiftAndFlip(shift=info.shift, flip=info.flip) == ShiftAndFlip(shift=1)
    assert int(digits.train.inputs["input"].max()) == 16


def test_digits_are_all_there_each_in_one_split(digits: Dataset) -> None:
    from sklearn.datasets import load_digits

    values, labels = load_digits(return_X_y=True)
    whole = [image.tobytes() + bytes([label]) for image, label in zip(values.astype(np.uint8), labels, strict=True)]
    assert sorted(images(digits)) == sorted(whole)


def test_digits_keep_the_share_of_each_class(digits: Dataset) -> None:
    test = digits.test.reveal(purpose="count its classes")
    counts = torch.stack([part.targets["label"].bincount() for part in (digits.train, digits.validation, test)])
    shares = counts / counts.sum(dim=1, keepdim=True)
    assert float((shares.amax(dim=0) - shares.amin(dim=0)).max()) < 0.01


def test_the_seed_divides_digits(digits: Dataset) -> None:
    again, other = load_dataset(name="digits", seed=0), load_dataset(name="digits", seed=1)
    assert images(again) == images(digits)
    assert again.fingerprint == digits.fingerprint
    assert sorted(images(other)) == sorted(images(digits))
    assert other.fingerprint != digits.fingerprint


def test_fewer_training_samples_leave_the_other_splits_alone(digits: Dataset) -> None:
    fewer = load_dataset(name="digits", seed=0, train_samples=100)
    assert len(fewer.train) == 100
    assert fewer.train.targets["label"].bincount().min() >= 9
    assert torch.equal(fewer.validation.inputs["input"], digits.validation.inputs["input"])
    assert fewer.fingerprint != digits.fingerprint


def test_one_training_sample_for_each_class_is_the_least() -> None:
    assert sorted(load_dataset(name="digits", train_samples=10).train.targets["label"].tolist()) == list(range(10))
    with pytest.raises(RequestError, match=r"10 \(classes\) <= train_samples <= 1079 .* got train_samples=9"):
        load_dataset(name="digits", train_samples=9)
    with pytest.raises(RequestError, match="got train_samples=1080"):
        load_dataset(name="digits", train_samples=1080)


def test_views_may_be_chosen() -> None:
    assert load_dataset(name="digits", shift=2).augmentation.count == 25
    assert load_dataset(name="digits", shift=0, flip=False).augmentation.count == 1


def test_mirrored_digits_are_refused() -> None:
    with pytest.raises(RequestError, match=r"flip must be false for digits .* \(study.toml: data.flip\)"):
        load_dataset(name="digits", flip=True, where="study.toml: data.flip")


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(RequestError, match=r"'fashion_mnist' \(study.toml: data.name\); did you mean 'fashion-mnist'"):
        load_dataset(name="fashion_mnist", where="study.toml: data.name")


def test_exactly_one_of_name_and_factory() -> None:
    for name, factory in [(None, None), ("digits", "mine:load")]:
        with pytest.raises(RequestError, match="exactly one of name, factory, pictures and texts must be given"):
            load_dataset(name=name, factory=factory)


def test_negative_numbers_are_refused() -> None:
    with pytest.raises(RequestError, match="seed >= 0 must hold, but got seed=-1"):
        load_dataset(name="digits", seed=-1)
    with pytest.raises(RequestError, match=r"shift >= 0 must hold, but got shift=-1 \(here\)"):
        load_dataset(name="digits", shift=-1, where="here")
    with pytest.raises(RequestError, match="shift < 8"):
        load_dataset(name="digits", shift=8)


def test_the_table_needs_no_framework(tmp_path: Path) -> None:
    code = "import sys, nas_compress.data.catalogue; print('torch' in sys.modules, 'sklearn' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
