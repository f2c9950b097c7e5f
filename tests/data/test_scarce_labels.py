"""Training splits of which some samples have no label."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nas_compress.data.assemble import Parts, image_parts
from nas_compress.data.augment.choose import Drawing
from nas_compress.data.load_dataset import load_dataset
from nas_compress.data.scarce_labels import keep_labels, scarce, with_unlabelled
from nas_compress.errors import RequestError
from nas_compress.tasks.classification import Classification
from nas_compress.tasks.regression import Regression
from nas_compress.tasks.several import SeveralTasks
from nas_compress.values.signature import TensorSpec, token_input

WHERE = "study.toml: data.factory"


def parts_of(labels: list[int]) -> Parts:
    inputs = np.arange(len(labels) * 4, dtype=np.uint8).reshape(-1, 1, 2, 2)
    split = (inputs, np.array(labels))
    return image_parts(name="small", classes=max(labels) + 1, train=split, validation=split, test=split)


def test_some_samples_keep_their_label_in_the_share_of_each_class() -> None:
    whole = load_dataset(name="digits", train_samples=200)
    few = load_dataset(name="digits", train_samples=200, labels=40)
    labels, known = few.train.targets["label"], whole.train.targets["label"]
    kept = labels >= 0
    assert torch.equal(few.train.inputs["input"], whole.train.inputs["input"])
    assert torch.equal(labels[kept], known[kept]) and set(labels[~kept].tolist()) == {-1}
    assert few.labelled_samples == 40 and few.task.lacks_labels and not whole.task.lacks_labels
    assert set(torch.bincount(labels[kept]).tolist()) <= {3, 4, 5}
    assert len(few.train.labelled(few.task)) == 40 and whole.train.labelled(whole.task) is whole.train
    assert torch.equal(few.validation.targets["label"], whole.validation.targets["label"])
    assert few.fingerprint != whole.fingerprint


def test_the_choice_follows_the_seed() -> None:
    small = parts_of([0, 1] * 50)

    def chosen(seed: int) -> list[int]:
        return keep_labels(small, 10, seed=seed, where=WHERE).train[1]["label"].tolist()

    assert chosen(0) == chosen(0) != chosen(1)


@pytest.mark.parametrize(
    ("labels", "count", "message"),
    [
        ([0, 1] * 5, 3, r"4 \(2 of each class\) <= labels <= 10 \(training samples\) must hold, but got labels=3"),
        ([0, 1] * 5, 11, "but got labels=11"),
        ([0, 0, 0, 1], 4, "train must have 2 samples of each class, but got 1 of class 1"),
    ],
)
def test_labels_that_cannot_be_kept_are_refused_by_the_key(labels: list[int], count: int, message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        keep_labels(parts_of(labels), count, seed=0, where=WHERE)
    assert "study.toml: data.labels" in str(caught.value) and "\n" not in str(caught.value)


def test_numbers_without_a_label_are_nan() -> None:
    task = Regression(inputs=(TensorSpec(name="input", dtype="float32", shape=("N", 2)),), mean=(0.0,), std=(1.0,))
    inputs = {"input": np.ones((6, 2), dtype=np.float32)}
    split = (inputs, {"targets": np.arange(6, dtype=np.float32)[:, None]})
    parts = Parts(name="numbers", task=task, train=split, validation=split, test=split, numeric=())
    kept = keep_labels(parts, 2, seed=0, where=WHERE)
    known = kept.task.labelled({"targets": torch.from_numpy(kept.train[1]["targets"])})
    assert known.sum() == 2
    assert kept.train[1]["targets"][known.numpy()].tolist() == split[1]["targets"][known.numpy()].tolist()


def test_a_subset_gives_its_own_mean_and_deviation() -> None:
    one = Regression(inputs=(TensorSpec(name="input", dtype="float32", shape=("N", 2)),), mean=(2.5,), std=(1.7,))
    split = ({"input": np.ones((6, 2), dtype=np.float32)}, {"targets": np.arange(6, dtype=np.float32)[:, None]})
    parts = Parts(name="numbers", task=one, train=split, validation=split, test=split, numeric=())
    fewer = scarce(parts, train_samples=3, labels=None, seed=0, where=WHERE)
    numbers = fewer.train[1]["targets"].astype(np.float64)
    assert len(numbers) == 3 and fewer.task.output_normalisation["values"].mean == (numbers.mean(),)
    assert fewer.task.output_normalisation["values"].std == (numbers.std(),)


def test_mean_and_deviation_are_those_of_the_numbers_that_are_kept() -> None:
    one = Regression(inputs=(TensorSpec(name="input", dtype="float32", shape=("N", 2)),), mean=(2.5,), std=(1.7,))
    inputs = {"input": np.ones((6, 2), dtype=np.float32)}
    numbers = np.arange(6, dtype=np.float32)[:, None]
    for task, target in ((one, "targets"), (SeveralTasks(parts=(("size", one),)), "targets_size")):
        split = (inputs, {target: numbers})
        parts = Parts(name="numbers", task=task, train=split, validation=split, test=split, numeric=())
        kept = keep_labels(parts, 3, seed=0, where=WHERE)
        known = kept.train[1][target][~np.isnan(kept.train[1][target])].astype(np.float64)
        (found,) = kept.task.output_normalisation.values()
        assert (len(known), found.mean, found.std) == (3, (known.mean(),), (known.std(),))
    split = (inputs, {"targets": np.float32([[1], [1], [1], [1], [1], [2]])})
    parts = Parts(name="numbers", task=one, train=split, validation=split, test=split, numeric=())
    with pytest.raises(RequestError, match="must have two different numbers, but got 2 labels of one number"):
        keep_labels(parts, 2, seed=0, where=WHERE)


def test_samples_of_the_data_without_a_label_follow_the_others(tmp_path: Path) -> None:
    (tmp_path / "half_known.py").write_text(
        """
import numpy as np

def split(samples, seed):
    labels = np.arange(samples) % 3
    images = np.random.default_rng(seed).integers(0, 200, size=(samples, 5, 4), dtype=np.uint8)
    return images + labels[:, None, None].astype(np.uint8), labels

def load():
    return {"train": split(60, 0), "test": split(12, 1), "unlabelled": split(20, 2)[0]}
"""
    )
    data = load_dataset(factory="half_known:load", folder=tmp_path, where=WHERE, labels=30)
    assert (len(data.train), data.labelled_samples) == (51 + 20, 30)
    assert set(data.train.targets["label"][51:].tolist()) == {-1}


def test_token_ids_are_padded_to_the_longest_of_both() -> None:
    task = Classification(inputs=(token_input(9),), classes=2)
    ids, labels = np.array([[5, 0], [6, 7]], dtype=np.int32), np.array([0, 1])
    split = ({"input": ids}, {"label": labels})
    parts = Parts(name="texts", task=task, train=split, validation=split, test=split, numeric=())
    more = scarce(
        replace(parts, unlabelled={"input": np.array([[2, 3, 4]], dtype=np.int32)}),
        train_samples=None, labels=None, seed=0, where=WHERE,
    )  # fmt: skip
    assert more.train[0]["input"].tolist() == [[5, 0, 0], [6, 7, 0], [2, 3, 4]]
    assert more.train[1]["label"].tolist() == [0, 1, -1]


@pytest.mark.parametrize(
    ("unlabelled", "message"),
    [
        ({"other": np.zeros((2, 1, 2, 2), np.uint8)}, r"inputs of train \(input\), but got other"),
        ({"input": np.zeros((2, 1, 3, 2), np.uint8)}, r"unlabelled input must be uint8 \(1, 2, 2\) as in train"),
        ({"input": np.zeros((2, 1, 2, 2), np.float32)}, "as in train, but got float32"),
        ({"input": np.zeros((0, 1, 2, 2), np.uint8)}, "must not be empty"),
    ],
)
def test_other_samples_than_those_of_train_are_refused(unlabelled: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        with_unlabelled(parts_of([0, 1] * 3), unlabelled, where=WHERE)
    assert "\n" not in str(caught.value)


def test_mixtures_need_labels_of_all_samples() -> None:
    with pytest.raises(RequestError, match="mixup and cutmix need a label of every sample"):
        load_dataset(name="digits", train_samples=100, labels=40, drawing=Drawing(mixup=0.2), where=WHERE)
