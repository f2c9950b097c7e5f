"""A teacher that the user brings, in real files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from nas_compress.config.teacher_section import TeacherSection
from nas_compress.data.load_dataset import load_dataset
from nas_compress.errors import RequestError
from nas_compress.pruning.pruned_family import build_pruned
from nas_compress.pruning.unpruned_layers import layers_left_whole
from nas_compress.tasks.classification import Classification
from nas_compress.teacher.given import GivenTeacher, load_given_teacher
from nas_compress.teacher.teacher import Teacher
from nas_compress.teacher.user_module import plain_module
from nas_compress.values.architecture import Architecture, Width
from teachers import small_teacher_in

SAMPLE = torch.randint(0, 17, (2, 1, 8, 8), dtype=torch.uint8)
CODE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.out = nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.Linear(6, 10)

    def forward(self, samples):
        return self.out(torch.relu(self.norm(self.conv(samples.float()))).mean((2, 3)))

def build():
    return Net()
"""


def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    conv, norm, out = nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.Linear(6, 10)
    parts = {"conv": conv, "norm": norm, "out": out}
    return {f"{part}.{name}": value for part, module in parts.items() for name, value in module.state_dict().items()}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "my_net.py").write_text(CODE)
    save_file(state(), tmp_path / "net.safetensors")
    torch.save(state(), tmp_path / "net.pt")
    return tmp_path


def load(
    place: Path,
    weights: str = "net.safetensors",
    factory: str = "my_net:build",
    classes: int = 10,
    features: Sequence[str] = (),
) -> nn.Module:
    return load_given_teacher(
        TeacherSection(factory=factory, weights=weights, features=tuple(features)),
        folder=place,
        task=Classification.of_images(shape=(1, 8, 8), classes=classes),
        batch={"input": SAMPLE},
        label="study.toml",
    )


def refused(place: Path, **changes: object) -> str:
    with pytest.raises(RequestError) as caught:
        load(place, **changes)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value) and "study.toml" in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("weights", ["net.safetensors", "net.pt"])
def test_both_kinds_of_file_are_loaded(weights: str, place: Path) -> None:
    network = load(place, weights)
    assert not network.training
    assert all(torch.equal(value, state()[name]) for name, value in network.state_dict().items())


def test_weights_that_do_not_fit_are_told_by_their_first_three_names(place: Path) -> None:
    wrong = state()
    wrong["conv.weight"] = torch.zeros(5, 1, 3, 3)
    wrong["extra"] = torch.zeros(2)
    del wrong["norm.bias"], wrong["out.bias"]
    save_file(wrong, place / "wrong.safetensors")
    line = refused(place, weights="wrong.safetensors")
    assert line == (
        "study.toml: teacher.weights must fit the module, but wrong.safetensors has conv.weight (5, 1, 3, 3) for "
        "(6, 1, 3, 3), extra (2,) for nothing, norm.bias missing for (6,) and 1 more"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds a list"),
        (torch.zeros(3), "holds a Tensor"),
        ({1: torch.zeros(3)}, "must hold a state dict, but net.pt holds no tensors (1)"),
        ({"state_dict": {}, "epoch": 3}, "must hold a state dict, but net.pt holds no tensors (state_dict, epoch)"),
    ],
)
def test_a_file_of_something_else_is_refused(content: object, message: str, place: Path) -> None:
    torch.save(content, place / "net.pt")
    assert message in refused(place, weights="net.pt")


def test_a_file_that_cannot_be_read_is_refused(place: Path) -> None:
    assert "must be a file" in refused(place, weights="gone.pt")
    for name in ("net.pt", "net.safetensors"):
        (place / name).write_bytes(b"no weights")
        assert "must hold a state dict" in refused(place, weights=name)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def build():\n    return 3", "must return a torch.nn.Module, but my_net:build returned int"),
        ("def build():\n    raise ValueError('two\\nlines')", "my_net:build raised ValueError: two lines"),
        ("def bild():\n    pass", "it has no 'build'; did you mean 'bild'? (study.toml: teacher.factory)"),
        ("x = 1", "it has no 'build' (study.toml: teacher.factory)"),
        ("import nothing_of_that_name", "raised ModuleNotFoundError"),
        (CODE.replace("nn.Linear(6, 10)", "nn.Linear(6, 7)"), "must fit the module"),
        (CODE.replace("samples.float()", "samples"), "must take raw samples, uint8 (2, 1, 8, 8), but it raised"),
        (CODE.replace(".mean((2, 3)))", ".mean((2, 3))).unsqueeze(1)"), "logits (N, 10), but it returned (2, 1, 10)"),
        (CODE.replace("return self.out(", "return (3, "), "logits (N, 10), but it returned int, (2, 6)"),
    ],
)
def test_code_that_does_not_hold_is_told(code: str, message: str, place: Path) -> None:
    (place / "my_net.py").write_text(code)
    assert message in refused(place)


PARTS = "self.spare, self.pairs, self.flat = nn.Identity(), Pair(), Flat()"
CALLS = "maps = self.conv(samples.float()); self.pairs(maps), self.flat(maps)"
MORE = """
class Pair(nn.Module):
    forward = lambda self, maps: (maps, maps)

class Flat(nn.Module):
    forward = lambda self, maps: maps.mT.reshape(-1, 6)
"""


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (
            ["con"],
            "an entry of teacher.features must be a known name, but got 'con' (study.toml); did you mean 'conv'?",
        ),
        (["conv", "spare"], "but 'spare' is not called"),
        (["pairs"], "a tensor of 2, 3 or 4 dimensions, 2 rows for 2 samples, but 'pairs' gives tuple"),
        (["flat"], "2 rows for 2 samples, but 'flat' gives (72, 6)"),
    ],
)
def test_features_must_be_modules_that_give_a_row_a_sample(features: list[str], message: str, place: Path) -> None:
    code = CODE.replace("super().__init__()", "super().__init__()\n        " + PARTS)
    code = code.replace("(self, samples):\n", "(self, samples):\n        " + CALLS + "\n")
    (place / "my_net.py").write_text(code + MORE)
    assert message in refused(place, features=features)
    assert load(place, features=["conv", "norm", "out"]).conv.out_channels == 6  # type: ignore[union-attr]


def test_the_number_of_classes_must_be_the_datas(place: Path) -> None:
    assert "must return logits (N, 4), but it returned (2, 10)" in refused(place, classes=4)


def obtain(place: Path, weights: str = "net.pt") -> Teacher:
    few = load_dataset(name="digits", shift=0, train_samples=50)
    return small_teacher_in(place, TeacherSection(factory="my_net:build", weights=weights), few)


def test_it_votes_and_answers_like_a_trained_one(place: Path) -> None:
    teacher = obtain(place)
    assert teacher.family is None and teacher.base_widths == ()
    assert teacher.answers.shape == (1, 50, 10)
    assert [group.layers for group in teacher.channel_groups("bn_scale", seed=0)] == [("conv",)]
    assert obtain(place).fingerprint == teacher.fingerprint == obtain(place, weights="net.safetensors").fingerprint
    changed = state()
    changed["out.bias"] += 1
    torch.save(changed, place / "net.pt")
    assert obtain(place).fingerprint != teacher.fingerprint


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_students_are_cut_from_a_module_with_the_older_weight_norm() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.utils.weight_norm(nn.Conv2d(1, 8, 3)), nn.Conv2d(8, 8, 3)
            self.out = nn.Linear(8, 10)

        def forward(self, samples: torch.Tensor) -> torch.Tensor:
            return self.out(torch.relu(self.second(torch.relu(self.first(samples.float())))).mean((2, 3)))

    example = {"input": SAMPLE}
    (whole,) = layers_left_whole(plain_module(Net(), example), example)
    assert str(whole) == "first (its weight is computed by a parametrization)"
    task = Classification.of_images(shape=(1, 8, 8), classes=10)
    architecture = Architecture(
        family="pruned",
        signature=task.signature,
        normalisation={},
        depths=(),
        widths=(Width(layer="second", asked=4.0, channels=4),),
    )
    student = build_pruned(lambda: plain_module(Net(), example), architecture, example)
    assert [tuple(layer.weight.shape) for layer in (student.first, student.second)] == [(8, 1, 3, 3), (4, 8, 3, 3)]
    assert student(SAMPLE).shape == (2, 10)


def test_a_given_teacher_is_loaded_once_and_handed_out_as_copies(place: Path) -> None:
    torch.save({"state_dict": state()}, place / "nested.pt")
    given = GivenTeacher(
        section=TeacherSection(factory="my_net:build", weights="nested.pt"),
        folder=place,
        task=Classification.of_images(shape=(1, 8, 8), classes=10),
        batch={"input": SAMPLE},
        label="study.toml",
    )
    notes: list[str] = []
    first = given.copy(notes.append)
    (place / "nested.pt").unlink()
    with torch.no_grad():
        for values in first.parameters():
            values.zero_()
    second = given.copy(notes.append)
    assert all(torch.equal(values, state()[name]) for name, values in second.state_dict().items() if "num_" not in name)
    assert len(notes) == 2 and "state_dict" in notes[0]
