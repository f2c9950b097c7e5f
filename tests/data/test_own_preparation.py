"""`[data] preprocess`: a module of the user before the normalisation, in every network and in its file."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from nas_compress.config.schema import DataSection
from nas_compress.config.teacher_section import TeacherSection
from nas_compress.data.dataset import Dataset
from nas_compress.data.load_dataset import load_dataset
from nas_compress.errors import RequestError
from nas_compress.measurement.export_agreement import check_agreement
from nas_compress.measurement.pipeline import Stopwatch, write_file
from nas_compress.models.families import build_student
from nas_compress.models.shapes_only import shapes_only
from nas_compress.teacher.obtain import teacher_architecture
from nas_compress.values.architecture import Architecture
from nas_compress.values.precision import Precision

CODE = """
import numpy as np
import torch
from torch import nn

def split(shape, seed):
    random = np.random.default_rng(seed)
    labels = np.arange(60) % 3
    values = np.exp(random.normal(size=(60, *shape)) + labels.reshape(-1, *[1] * len(shape)))
    return values.astype("float32"), labels

def load(*shape):
    return lambda: {"train": split(shape, 0), "test": split(shape, 1)}

images, series, table = load(3, 8, 8), load(4, 12), load(6)

class Log(nn.Module):
    def __init__(self, scale=1.0):
        super().__init__()
        self.register_buffer("scale", torch.tensor(scale))

    def forward(self, samples):
        return torch.log(samples.float() + 1) * self.scale

def prepare():
    return Log(2.0)

def of_a_batch():
    class Mean(nn.Module):
        def forward(self, samples):
            return samples - samples.mean(0)
    return Mean()

def another_shape():
    return nn.Flatten()

def nothing():
    return 3

def trained():
    return nn.Linear(6, 6)

def not_finite():
    class Wrong(Log):
        def forward(self, samples):
            return torch.log(samples - 1e9)
    return Wrong()
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "my_prep.py").write_text(CODE)
    yield tmp_path
    sys.modules.pop("my_prep", None)


def load(place: Path, kind: str, preprocess: str | None = "prepare") -> Dataset:
    named = None if preprocess is None else f"my_prep:{preprocess}"
    return load_dataset(factory=f"my_prep:{kind}", folder=place, preprocess=named, where="study.toml: data.factory")


def shape_of(data: Dataset, family: str) -> Architecture:
    widths = (16,) if family == "mlp" else (8, 8, 8)
    return teacher_architecture(TeacherSection(family=family, widths=widths), data)


def test_statistics_are_those_of_prepared_samples(place: Path) -> None:
    data = load(place, "table")
    prepared = 2 * np.log(data.train.inputs["input"].numpy() + 1)
    found = data.normalisation["input"]
    np.testing.assert_allclose(found.mean, prepared.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(found.std, prepared.std(axis=0), rtol=1e-5)
    assert found.prepare.startswith("my_prep:prepare ")
    plain = load(place, "table", None)
    assert plain.fingerprint != data.fingerprint and plain.normalisation["input"].prepare == ""
    assert "prepare" not in shape_of(plain, "mlp").to_dict()["normalisation"]["input"]
    kept = shape_of(data, "mlp")
    assert Architecture.from_dict(kept.to_dict()) == kept


@pytest.mark.parametrize(
    ("kind", "family"), [("images", "resnet"), ("images", "vit"), ("series", "conv1d"), ("table", "mlp")]
)
def test_it_is_in_every_network_and_in_its_file(kind: str, family: str, place: Path, tmp_path: Path) -> None:
    data = load(place, kind)
    architecture = (
        teacher_architecture(TeacherSection(family="vit", widths=(16,), depths=(1,), heads=2, patch_size=4), data)
        if family == "vit"
        else shape_of(data, family)
    )
    torch.manual_seed(0)
    network = build_student(architecture).eval()
    raw = data.train.inputs["input"]
    with torch.no_grad():
        first = network.raw_input[0](raw)  # type: ignore[index, union-attr]
    assert torch.allclose(first, 2 * torch.log(raw + 1))
    with shapes_only():
        assert all(values.is_meta for values in build_student(architecture).buffers())
    for bits in ((32, 32), (8, 32)):
        path = tmp_path / f"{bits[0]}.onnx"
        deployable = write_file(
            network,
            path,
            signature=data.task.signature,
            precision=Precision(weight_bits=bits[0], activation_bits=bits[1]),
            calibration=data.train.inputs,
            watch=Stopwatch(),
        )
        check_agreement(deployable, path, data.train.inputs, data.task)
    session = onnxruntime.InferenceSession(tmp_path / "32.onnx", providers=["CPUExecutionProvider"])
    (answers,) = session.run(None, {"input": raw.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(answers), network(raw), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("of_a_batch", "must prepare a sample alike in every batch, but does not"),
        ("another_shape", "must return float32 values of the shape (2, 4, 12), but got torch.float32 (2, 48)"),
        ("nothing", "preprocess must be a function that returns a torch.nn.Module, but my_prep:nothing returned int"),
        ("trained", "must have no parameters, because nothing trains them"),
        ("not_finite", "must return finite values, but got inf or nan"),
        ("missing", "preprocess must name a callable of 'my_prep', but it has no 'missing'"),
    ],
)
def test_what_the_module_may_not_do(name: str, words: str, place: Path) -> None:
    with pytest.raises(RequestError) as caught:
        load(place, "series", name)
    assert words in str(caught.value) and "data.preprocess" in str(caught.value) and "\n" not in str(caught.value)


def test_it_is_as_in_evaluation_while_the_network_trains(place: Path) -> None:
    (place / "my_prep.py").write_text(
        CODE.replace("return Log(2.0)", "return nn.Sequential(Log(2.0), nn.Dropout(0.5))")
    )
    data = load(place, "table")
    network = build_student(shape_of(data, "mlp")).train()
    raw = data.train.inputs["input"]
    first = network.raw_input[0]  # type: ignore[index, union-attr]
    torch.testing.assert_close(first(raw), 2 * torch.log(raw + 1))
    assert network.training and not any(module.training for module in first.modules())


def test_a_module_that_it_imports_is_part_of_the_identity(place: Path) -> None:
    (place / "my_prep.py").write_text(f"from my_scale import SCALE\n{CODE.replace('Log(2.0)', 'Log(SCALE)')}")
    found = []
    for scale in ("2.0", "3.0", "2.0"):
        (place / "my_scale.py").write_text(f"SCALE = {scale}\n")
        for name in ("my_prep", "my_scale"):
            sys.modules.pop(name, None)
        found.append(load(place, "table").fingerprint)
    sys.modules.pop("my_scale", None)
    assert found[0] == found[2] != found[1]


def test_a_section_without_it_keeps_its_form() -> None:
    assert "preprocess" not in DataSection(name="digits").model_dump()
