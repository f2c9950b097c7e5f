"""Modules that return a dict, a tuple or a dataclass: one output is chosen by name or place."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import fx, nn

from image_files import export_images, predict_logits
from nas_compress.config.teacher_section import TeacherSection
from nas_compress.errors import RequestError
from nas_compress.tasks.classification import Classification
from nas_compress.teacher.chosen_output import choose_output
from nas_compress.teacher.given import build_given_module, load_given_teacher

TASK = Classification.of_images(shape=(1, 8, 8), classes=10)
SAMPLES = torch.randint(0, 17, (3, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
CODE = """
from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import torch
from torch import nn

Pair = namedtuple("Pair", "logits maps")


@dataclass
class Answer:
    loss: object
    logits: object


class ModelOutput(OrderedDict):
    def __getitem__(self, name):
        return super().__getitem__(name) if isinstance(name, str) else tuple(self.values())[name]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 6, 3), nn.Linear(6, 10)

    def forward(self, samples):
        maps = torch.relu(self.conv(samples.float()))
        logits = self.head(maps.mean((2, 3)))
        return KIND


def build():
    return Net()
"""
KINDS = {
    "dict": '{"maps": maps, "logits": logits}',
    "tuple": "(maps, logits)",
    "list": "[maps, logits]",
    "namedtuple": "Pair(logits, maps)",
    "dataclass": "Answer(None, logits)",
    "ModelOutput": "ModelOutput(maps=maps, logits=logits)",
}


def place(folder: Path, kind: str, module: str = "nets_of_output") -> Path:
    """Write a module that returns `kind`, and its weights; a module is imported once in a process."""
    code = CODE.replace("KIND", kind)
    (folder / f"{module}.py").write_text(code)
    names: dict[str, Any] = {}
    exec(code.replace("@dataclass", ""), names)
    torch.manual_seed(0)
    torch.save(names["build"]().state_dict(), folder / "net.pt")
    return folder


def load(folder: Path, output: str | int | None, module: str = "nets_of_output") -> nn.Module:
    section = TeacherSection(factory=f"{module}:build", weights="net.pt", output=output)
    return load_given_teacher(section, folder=folder, task=TASK, batch={"input": SAMPLES}, label="study.toml")


@pytest.mark.parametrize("kind", KINDS)
def test_the_logits_are_chosen_by_name_or_place(kind: str, tmp_path: Path) -> None:
    expected = load(place(tmp_path, "logits", "plain_nets"), None, "plain_nets")(SAMPLES)
    place(tmp_path, KINDS[kind])
    for output in [1] if kind in ("tuple", "list") else ["logits", 0 if kind == "namedtuple" else 1]:
        teacher = load(tmp_path, output)
        assert torch.equal(teacher(SAMPLES), expected)
        assert torch.equal(copy.deepcopy(teacher)(SAMPLES), expected)
        assert [name for name, _ in teacher.named_children()] == ["conv", "head"]


def test_an_output_that_is_missing_is_named_with_the_others(tmp_path: Path) -> None:
    place(tmp_path, KINDS["dict"])
    with pytest.raises(RequestError) as caught:
        load(tmp_path, None)
    assert str(caught.value) == (
        "study.toml: the teacher must return logits (N, 10), but it returned dict with maps (3, 6, 6, 6), "
        "logits (3, 10); choose one by teacher.output"
    )
    for output, hint in (("logit", "did you mean 'logits'?"), (5, "valid are logits, maps"), ("y", "valid are")):
        with pytest.raises(
            RequestError, match=r"^study.toml: teacher.output must be an output of the module"
        ) as caught:
            load(tmp_path, output)
        assert hint in str(caught.value)
    place(tmp_path, "logits", "plain_nets")
    with pytest.raises(RequestError, match=r"but got 'logits'; it returned \(3, 10\)$"):
        load(tmp_path, "logits", "plain_nets")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_choice_is_in_the_file_and_in_a_traced_graph(tmp_path: Path) -> None:
    teacher = load(place(tmp_path, KINDS["dict"]), "logits")
    export_images(teacher, (1, 8, 8), tmp_path / "model.onnx")
    answers = torch.tensor(predict_logits(tmp_path / "model.onnx", SAMPLES.numpy()))
    torch.testing.assert_close(answers, teacher(SAMPLES), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(fx.symbolic_trace(teacher)(SAMPLES), teacher(SAMPLES))


def test_a_student_cut_from_the_module_has_the_choice(tmp_path: Path) -> None:
    place(tmp_path, KINDS["tuple"])
    section = TeacherSection(factory="nets_of_output:build", weights="net.pt", output=1)
    built = build_given_module(section, folder=tmp_path, task=TASK, batch={"input": SAMPLES}, label="study.toml")
    assert built(SAMPLES).shape == (3, 10)


def test_the_choice_of_a_graph_of_torch_fx_is_in_its_copies() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(2, 3)

        def forward(self, samples: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"samples": samples, "logits": self.head(samples)}

    module, samples = Net(), torch.ones(2, 2)
    for output in ("logits", 1):
        graph = choose_output(fx.symbolic_trace(module), output)
        expected = module(samples)["logits"]
        assert torch.equal(graph(samples), expected) and torch.equal(copy.deepcopy(graph)(samples), expected)
    with pytest.raises(RequestError, match=r"teacher.output must be an output of the module, but got 'logit'"):
        choose_output(fx.symbolic_trace(module), "logit")(samples)


def test_no_choice_changes_nothing() -> None:
    module = nn.Linear(2, 2)
    assert choose_output(module, None) is module and type(module) is nn.Linear
