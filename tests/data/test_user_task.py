from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from nas_compress.data.augment.protocol import NoAugmentation
from nas_compress.data.dataset import Dataset
from nas_compress.data.load_dataset import load_dataset
from nas_compress.errors import RequestError

MODULE = """
import numpy as np
import torch
from nas_compress.tasks.export_tolerance import Agreement
from nas_compress.tasks.task import Task
from nas_compress.values.signature import Signature, TensorSpec

class Distance(Task):
    name, metrics = "distance", ("error",)
    signature = Signature(
        inputs=(TensorSpec(name="left", dtype="float32", shape=("N", 3)),
                TensorSpec(name="right", dtype="float32", shape=("N", 3))),
        outputs=(TensorSpec(name="distance", dtype="float32", shape=("N", 1)),),
    )
    targets = (TensorSpec(name="distance", dtype="float32", shape=("N", 1)),)

    def base_loss(self, outputs, targets):
        return (outputs["distance"] - targets["distance"]).square().mean()
    def measure(self, outputs, targets):
        return {"error": float(np.abs(outputs["distance"] - targets["distance"]).mean())}
    def chance(self, metric):
        return None
    def agreement(self, found, expected, *, rounding, name):
        return Agreement(agreement=1.0, max_difference=0.0)

def split(samples):
    left, right = np.random.default_rng(samples).normal(size=(2, samples, 3)).astype("float32")
    return {"left": left, "right": right}, {"distance": np.linalg.norm(left - right, axis=1, keepdims=True)}

good = {"task": Distance(), "train": split(40), "test": split(10)}

def load():
    return RETURNED
"""


@pytest.fixture(autouse=True)
def forget_user_modules() -> Iterator[None]:
    yield
    sys.modules.pop("my_task", None)


def load(folder: Path, returned: str = "good", **choices: int | bool) -> Dataset:
    (folder / "my_task.py").write_text(MODULE.replace("RETURNED", returned))
    return load_dataset(factory="my_task:load", folder=folder, where="s: data.factory", **choices)  # type: ignore[arg-type]


def test_named_tensors_of_a_task_are_divided_and_normalised(tmp_path: Path) -> None:
    data = load(tmp_path, train_samples=30)
    assert data.task.name == "distance" and data.task.classes is None and data.augmentation == NoAugmentation()
    assert (len(data.train), len(data.validation), len(data.test)) == (30, 6, 10)
    assert list(data.train.inputs) == ["left", "right"] == list(data.normalisation)
    left = data.train.inputs["left"]
    assert data.normalisation["left"].mean == pytest.approx(left.mean(dim=0).tolist(), abs=1e-5)
    distance = (left - data.train.inputs["right"]).norm(dim=1, keepdim=True)
    torch.testing.assert_close(data.train.targets["distance"], distance)


def test_a_task_without_classes_has_no_logits(tmp_path: Path) -> None:
    task = load(tmp_path).task
    with pytest.raises(RequestError, match="losses on logits need a task with classes, but distance has none"):
        task.logits({"distance": torch.zeros(1, 1)})
    with pytest.raises(RequestError, match="losses on labels need a task with classes, but distance has none"):
        task.labels({"distance": torch.zeros(1, 1)})


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("{**good, 'task': 3}", "task must be a nas_compress.tasks.task.Task, but got int"),
        ("{**good, 'augmentation': 3}", "augmentation must be a nas_compress.data.augment.protocol.Augmentation"),
        ("{**good, 'valid': good['test']}", "did you mean 'validation'"),
        (
            "{'task': good['task'], 'test': good['test']}",
            "must include train, and test for `confirm`, but got task, test",
        ),
        ("{**good, 'train': (good['train'][0]['left'], 0)}", "train must be a pair of mappings (inputs, targets)"),
        ("{**good, 'test': ({'left': [1.0]}, {})}", "test: left must be a numpy array or torch tensor, but got list"),
        ("{**good, 'test': ({}, {})}", "test must not be empty"),
        ("{**good, 'test': (split(10)[0], {})}", "tensors must be distance in this order, but got none"),
        (
            "{**good, 'test': ({k: v.astype('float64') for k, v in split(10)[0].items()}, split(10)[1])}",
            "left must be float32 (10, 3), but got float64 (10, 3)",
        ),
        ("{**good, 'test': (split(9)[0], split(10)[1])}", "must have one row per sample, but got left: 9, right: 9"),
    ],
)
def test_mistakes_are_refused_in_one_line(tmp_path: Path, returned: str, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        load(tmp_path, returned)
    assert message in str(caught.value) and "\n" not in str(caught.value) and "s: data.factory" in str(caught.value)


def test_shifts_are_for_images(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="shift and flip need images"):
        load(tmp_path, shift=1)


def test_data_have_one_augmentation(tmp_path: Path) -> None:
    own = "{**good, 'augmentation': ShiftAndFlip(shift=1)}"
    (tmp_path / "my_task.py").write_text(
        "from nas_compress.data.augment.shift_and_flip import ShiftAndFlip\n" + MODULE.replace("RETURNED", own)
    )
    with pytest.raises(RequestError, match="data with a task 'distance' of their own must have one augmentation, but"):
        load_dataset(factory="my_task:load", folder=tmp_path, shift=1)
