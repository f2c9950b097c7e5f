"""Checkpoints as training scripts write them: where the state dict is, and under which names."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from nas_compress.errors import RequestError
from nas_compress.tasks.classification import Classification
from nas_compress.teacher.user_module import build_own_module, load_own_teacher

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.compile, in its own modules

TASK = Classification.of_images(shape=(1, 8, 8), classes=10)
SAMPLE = torch.randint(0, 17, (2, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
CODE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.out = nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.Linear(6, 10)

    def forward(self, samples):
        return self.out(torch.relu(self.norm(self.conv(samples.float()))).mean((2, 3)))

class Outer(nn.Module):
    def __init__(self, part=None):
        super().__init__()
        self.backbone = Net() if part is None else part

    def forward(self, samples):
        return self.backbone(samples)

class Lazy(nn.Sequential):
    def forward(self, samples):
        return super().forward(samples.float())

def build_lazy():
    return Lazy(nn.LazyConv2d(6, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten(), nn.LazyLinear(10))

def build_parallel():
    return nn.DataParallel(Net())

def build_compiled():
    return torch.compile(nn.DataParallel(torch.compile(Net())))

def build_averaged():
    return torch.optim.swa_utils.AveragedModel(Net())

def build_half():
    return Net().half()

def build_inner():
    return Outer(torch.compile(Net()))

def build_compiled_in_place():
    network = Net()
    network.compile()
    return network
"""


def names() -> dict[str, Any]:
    found: dict[str, Any] = {}
    exec(CODE, found)
    return found


def network(seed: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    made: nn.Module = names()["Net"]().eval()
    made.norm.running_mean.normal_()  # type: ignore[union-attr, operator]
    return made


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "my_nets.py").write_text(CODE)
    return tmp_path


def load(place: Path, content: object, *, factory: str = "Net", key: str | None = None) -> tuple[nn.Module, list[str]]:
    """The loaded teacher and the lines about its weights."""
    torch.save(content, place / "net.pt")
    lines: list[str] = []
    loaded = load_own_teacher(
        f"my_nets:{factory}",
        "net.pt",
        folder=place,
        task=TASK,
        batch={"input": SAMPLE},
        label="study.toml",
        weights_key=key,
        notice=lines.append,
    )
    return loaded, lines


def refused(place: Path, content: object, **given: Any) -> str:
    with pytest.raises(RequestError) as caught:
        load(place, content, **given)
    line = str(caught.value)
    assert "\n" not in line and "study.toml" in line
    return line


def prefixed(prefix: str, seed: int = 3) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in network(seed).state_dict().items()}


FORMS: dict[str, tuple[Callable[[], Mapping[str, Any]], str]] = {
    "plain": (lambda: prefixed(""), ""),
    "DataParallel": (lambda: prefixed("module."), "of net.pt without the prefix 'module.'"),
    "compiled": (lambda: prefixed("_orig_mod."), "of net.pt without the prefix '_orig_mod.'"),
    "both": (lambda: prefixed("module._orig_mod."), "of net.pt without the prefix 'module.' and '_orig_mod.'"),
    "averaged": (lambda: AveragedModel(network()).state_dict(), "of net.pt without the prefix 'module.'"),
    "state_dict": (lambda: {"state_dict": prefixed(""), "epoch": 3}, "under 'state_dict' of net.pt"),
    "Lightning": (
        lambda: {"state_dict": {**prefixed("model."), "loss.weight": torch.ones(10)}, "pytorch-lightning_version": "2"},
        "under 'state_dict' of net.pt without the prefix 'model.'; 1 other tensors are left out",
    ),
    "nested": (
        lambda: {"state": {"net": prefixed("module.")}},
        "under 'state.net' of net.pt without the prefix 'module.'",
    ),
    "optimizer": (
        lambda: {"model": prefixed(""), "optimizer": torch.optim.Adam(network().parameters()).state_dict()},
        "under 'model' of net.pt",
    ),
    "options": (
        lambda: {
            "model": prefixed(""),
            "args": argparse.Namespace(lr=0.1, out=Path("runs")),
            "best": np.float64(0.9),
            "epoch": np.int64(3),
        },
        "under 'model' of net.pt",
    ),
    "old counters": (
        lambda: {name: value for name, value in prefixed("").items() if "num_batches" not in name},
        "",
    ),
    "half": (
        lambda: {name: value.half() if value.is_floating_point() else value for name, value in prefixed("").items()},
        "",
    ),
    "ema beside": (
        lambda: {"ema": prefixed("module.", seed=4), "model": prefixed("")},
        "under 'model' of net.pt; 'ema' of the file fit too (teacher.weights_key)",
    ),
    "ema alone": (lambda: {"model_ema": prefixed("")}, "under 'model_ema' of net.pt"),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_state_dict_is_found_and_the_line_says_where(form: str, place: Path) -> None:
    make, note = FORMS[form]
    loaded, lines = load(place, make())
    assert lines == ([f"study.toml: teacher.weights: the state dict {note}"] if note else [])
    tolerance = 1e-3 if form == "half" else 0
    with torch.no_grad():
        torch.testing.assert_close(loaded(SAMPLE), network()(SAMPLE), rtol=tolerance, atol=tolerance)


def test_averaged_weights_are_read_if_their_key_is_given(place: Path) -> None:
    content = {"ema": {"module": prefixed("", seed=4)}, "model": prefixed("")}
    loaded, lines = load(place, content, key="ema.module")
    assert torch.equal(loaded.conv.weight, network(4).conv.weight)  # type: ignore[union-attr, arg-type]
    assert lines == ["study.toml: teacher.weights: the state dict under 'ema.module' of net.pt"]
    assert refused(place, content, key="emma.module").endswith(
        "teacher.weights_key must be a known name, but got 'emma.module' (study.toml); did you mean 'ema.module'?"
    )


def test_a_file_of_the_inner_network_fits_its_wrapper(place: Path) -> None:
    loaded, lines = load(place, prefixed(""), factory="Outer")
    assert torch.equal(loaded(SAMPLE), network()(SAMPLE))
    assert lines == ["study.toml: teacher.weights: the state dict of net.pt with the prefix 'backbone.' of the module"]


def test_two_networks_in_one_state_dict_are_refused(place: Path) -> None:
    line = refused(place, {**prefixed("student."), **prefixed("teacher.", seed=4)})
    assert line.endswith("but net.pt has several: student., teacher.; save the state dict of one")


def test_other_names_are_named_with_the_modules_own(place: Path) -> None:
    content = prefixed("")
    content = {
        name.replace("conv", "features.0").replace("out", "classifier"): value for name, value in content.items()
    }
    line = refused(place, {"model": content})
    assert line == (
        "study.toml: teacher.weights must fit the module, but net.pt (under 'model') has features.0.bias (6,) for "
        "conv.bias, features.0.weight (6, 1, 3, 3) for conv.weight, classifier.bias (10,) for out.bias and 1 more"
    )


def test_other_shapes_are_named_with_the_modules_own(place: Path) -> None:
    content = prefixed("module.")
    content["module.out.weight"], content["module.out.bias"] = torch.zeros(1000, 6), torch.zeros(1000)
    assert refused(place, content).endswith("net.pt has out.bias (1000,) for (10,), out.weight (1000, 6) for (10, 6)")


def test_a_pickled_module_is_refused_with_the_way_out(place: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    line = refused(place, nn.Sequential(nn.Linear(2, 2)))
    assert "holds a pickled object, torch.nn.modules.container.Sequential, and loading it would run code" in line
    assert line.endswith("save its state dict: torch.save(model.state_dict(), ...)")


@pytest.mark.parametrize("factory", ["parallel", "compiled", "averaged", "half", "inner", "compiled_in_place"])
def test_wrapped_and_half_precision_modules_are_used_without_their_wrapper(factory: str, place: Path) -> None:
    loaded, _ = load(place, prefixed("backbone." if factory == "inner" else ""), factory=f"build_{factory}")
    inside = loaded.backbone if factory == "inner" else loaded
    assert [name for name, _ in inside.named_children()] == ["conv", "norm", "out"]  # type: ignore[union-attr, operator]
    assert all(value.dtype in (torch.float32, torch.int64) for value in loaded.state_dict().values())
    assert torch.equal(loaded(SAMPLE), network()(SAMPLE))


def test_a_file_of_a_wrapped_module_fits_a_factory_that_wraps_too(place: Path) -> None:
    loaded, _ = load(place, prefixed("_orig_mod.module._orig_mod."), factory="build_compiled")
    assert torch.equal(loaded(SAMPLE), network()(SAMPLE))


def test_lazy_layers_get_their_shapes_from_samples(place: Path) -> None:
    torch.manual_seed(0)
    made = names()["build_lazy"]()
    made(SAMPLE)
    loaded, lines = load(place, made.state_dict(), factory="build_lazy")
    assert torch.equal(loaded(SAMPLE), made.eval()(SAMPLE)) and lines == []
    built = build_own_module("my_nets:build_lazy", folder=place, batch={"input": SAMPLE}, label="study.toml")
    assert built.training and built[4].weight.shape == (10, 216)  # type: ignore[index, union-attr]


def test_samples_that_lazy_layers_refuse_are_named(place: Path) -> None:
    (place / "my_nets.py").write_text(CODE.replace("super().forward(samples.float())", "super().forward(samples)"))
    line = refused(place, prefixed(""), factory="build_lazy")
    assert "must build a module whose lazy layers take raw samples, uint8 (2, 1, 8, 8), but it raised" in line


def test_safetensors_have_prefixes_too(place: Path) -> None:
    save_file(prefixed("module."), place / "net.safetensors")
    lines: list[str] = []
    loaded = load_own_teacher(
        "my_nets:Net",
        "net.safetensors",
        folder=place,
        task=TASK,
        batch={"input": SAMPLE},
        label="study.toml",
        notice=lines.append,
    )
    assert torch.equal(loaded(SAMPLE), network()(SAMPLE)) and "without the prefix 'module.'" in lines[0]
