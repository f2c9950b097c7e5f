"""Starter studies whose teacher is a file of a runtime or of a library."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from nas_compress.errors import RequestError
from nas_compress.search.starter_study import PRUNING, Starter, write_starter
from running import own_cache  # noqa: F401

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")


class Net(nn.Sequential):
    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        return super().forward(samples.float() / 16)


def test_an_onnx_file_alone_gets_a_space_without_pruning(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sample = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    net = Net(nn.Flatten(), nn.Linear(64, 10)).eval()
    torch.onnx.export(
        net, (sample,), tmp_path / "net.onnx", dynamo=False, dynamic_axes={"x": {0: "n"}}, input_names=["x"]
    )
    write_starter(Starter(folder=tmp_path / "mine", data="digits", weights=tmp_path / "net.onnx"))
    values = tomllib.loads((tmp_path / "mine" / "study.toml").read_text())
    assert values["teacher"] == {"weights": "../net.onnx"}
    assert (
        "pruning_percent = 0  # pruning needs the layers of a teacher" in (tmp_path / "mine" / "space.py").read_text()
    )


def test_a_state_dict_alone_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "net.pt")
    with pytest.raises(RequestError, match=r"weights alone must be an ONNX or TorchScript file, but got net.pt"):
        write_starter(Starter(folder=tmp_path / "mine", data="digits", weights=tmp_path / "net.pt"))
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize(("output", "written"), [("logits", "logits"), ("0", 0)])
def test_one_of_several_outputs_is_chosen(output: str, written: str | int, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    answer = '{"logits": y}' if output == "logits" else "(y, x)"
    (tmp_path / "mine" / "my_outputs.py").write_text(
        "import torch\nfrom torch import nn\nclass Net(nn.Sequential):\n    def forward(self, samples):\n"
        f"        x = samples.float().flatten(1) / 16; y = super().forward(x); return {answer}\n"
        "def build(): return Net(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))\n"
    )
    net = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    torch.save(net.state_dict(), tmp_path / "net.pt")
    starter = Starter(folder=tmp_path / "mine", data="digits", model="my_outputs:build", weights=tmp_path / "net.pt")
    with pytest.raises(RequestError, match=r"the teacher must return logits.*choose one by teacher\.output"):
        write_starter(starter)
    study, _ = write_starter(replace(starter, output=output))
    assert tomllib.loads(study.read_text())["teacher"]["output"] == written


def test_the_pruning_of_every_built_in_space_is_recognised() -> None:
    spaces = Path(__file__).parents[2] / "search_spaces"
    texts = [path.read_text() for path in spaces.glob("*.py")]
    choosing = [text for text in texts if '"pruning_percent"' in text]
    assert choosing and all(PRUNING.search(text) for text in choosing)
