"""A starter study runs as it was written."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from nas_compress.config.study_file import read_study
from nas_compress.search.run import run_study
from nas_compress.search.setup import gather
from nas_compress.search.starter_study import Starter, write_starter
from running import Command, command_in, quick_and_apart, snapshot

MODELS = """from torch import nn

class Raw(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Conv2d(1, 8, 3)
        self.head = nn.Linear(8 * 36, 3)
    def forward(self, samples):
        return self.head(self.body(samples.float() / 255).relu().flatten(1))

def build():
    return Raw()

def broken():
    raise ValueError("no such layer")
"""

DATA = """import numpy as np

def load():
    images = np.load("images.npy")
    labels = np.arange(len(images)) % 3
    return {"train": (images[:90], labels[:90]), "test": (images[90:], labels[90:])}
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path) -> Iterator[Path]:
    with quick_and_apart() as patch:
        patch.chdir(tmp_path)
        yield tmp_path


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    return command_in(monkeypatch, capfd)


@pytest.fixture
def own(here: Path) -> Path:
    """A teacher with its weights and a data module in the working folder."""
    (here / "my_models.py").write_text(MODELS)
    (here / "my_data.py").write_text(DATA)
    np.save(here / "images.npy", np.random.default_rng(0).integers(0, 255, (120, 1, 8, 8), dtype=np.uint8))
    weights = nn.ModuleDict({"body": nn.Conv2d(1, 8, 3), "head": nn.Linear(8 * 36, 3)}).state_dict()
    torch.save(weights, here / "teacher.pt")
    return here


@pytest.mark.slow
def test_a_study_of_ones_own_model_and_data_runs_unchanged(command: Command, own: Path) -> None:
    answer = command("init", "mine", "--model", "my_models:build", "--data", "my_data:load")
    assert answer.code == 0, answer.err
    assert answer.out.split() == ["mine/study.toml", "mine/space.py"]
    expected, following = answer.err.splitlines()
    assert re.fullmatch(r"expected: about [\d.]+ (s|min|h) for 24 trials on this machine; check says more", expected)
    assert following == "next: nas-compress check mine"
    assert "bn_scale" not in (own / "mine" / "space.py").read_text(), "this teacher has no batch normalisation"
    front = run_study("mine", trials=1)
    assert front.teacher is not None
    assert len(front.points) == 1
    assert (own / "runs" / "mine" / "front.png").is_file()


@pytest.mark.parametrize("space", ["cnn", pytest.param("strided_cnn", marks=pytest.mark.slow)])
def test_its_keys_are_known_and_so_are_those_in_its_comments(space: str, command: Command, tmp_path: Path) -> None:
    answer = command("init", "mine", "--space", space)
    assert answer.code == 0, answer.err
    spec = read_study("mine").spec
    assert (spec.name, spec.space, spec.data.name) == ("mine", "space.py", "digits")
    text = (tmp_path / "mine" / "study.toml").read_text()
    budgets = [line.removeprefix("# ") for line in text[text.index("# [budgets]") :].splitlines()]
    assert tomllib.loads("\n".join(budgets))["budgets"].keys() == {"size_bytes", "latency_ms", "accuracy"}
    own_space = (tmp_path / "mine" / "space.py").read_text()
    assert own_space.startswith('"""Search space of mine')
    assert f"Copied from the built-in space {space}." in own_space
    assert "def suggest(trial: Suggest) -> Candidate:" in own_space
    assert '"bn_scale"' in own_space


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("mine", "--data", "digitz"), "--data must be a known name, but got 'digitz'; did you mean 'digits'"),
        (("mine", "--space", "cmn"), "--space must be a known name, but got 'cmn'; did you mean 'cnn'"),
        (("mine", "--model", "my_models:biuld", "--data", "my_data:load"), "did you mean 'build'"),
        (("mine", "--model", "my_models:broken", "--data", "my_data:load"), "no such layer"),
        (("mine", "--model", "my_models:build"), "must return logits (N, 10)"),
        (("mine", "--data", "nowhere:load"), "'nowhere'"),
        (("mine", "--model", "my_models:build", "--weights", "w.pt"), "--weights must be a file, but w.pt is not one"),
        (("my_data.py",), "DIR must be a folder"),
        ((), "DIR"),
    ],
)
def test_a_mistake_leaves_nothing_behind(arguments: tuple[str, ...], words: str, command: Command, own: Path) -> None:
    before = snapshot(own)
    answer = command("init", *arguments)
    assert answer.code == 2
    assert words in answer.line
    assert snapshot(own) == before
    assert not (own / "mine").exists()


KINDS = """import numpy as np

rng = np.random.default_rng(0)
classes = rng.integers(0, 3, 240)

def both(inputs, targets):
    return {"train": (inputs[:180], targets[:180]), "test": (inputs[180:], targets[180:])}

def table():
    return both(rng.normal(size=(240, 16)) + classes[:, None], rng.normal(size=240) + classes)

def series():
    return both(rng.normal(size=(240, 3, 20)) + classes[:, None, None], np.array(["run", "sit", "walk"])[classes])

def sets():
    return both(rng.integers(0, 50, (240, 6)) + 9 * classes[:, None], np.eye(3, dtype=int)[classes])
"""


@pytest.mark.parametrize(
    ("name", "family", "metric"),
    [
        ("table", "mlp", "r2"),
        pytest.param("series", "conv1d", "accuracy", marks=pytest.mark.slow),
        pytest.param("sets", "mlp", "f1_macro", marks=pytest.mark.slow),
    ],
)
def test_it_fits_tables_series_and_sets_of_labels(
    name: str, family: str, metric: str, command: Command, here: Path
) -> None:
    (here / "my_kinds.py").write_text(KINDS)
    assert command("init", "mine", "--data", f"my_kinds:{name}").code == 0
    spec = read_study(here / "mine").spec
    assert spec.teacher.family == family and spec.objectives[0] == metric
    text = (here / "mine" / "study.toml").read_text()
    start = '[search]\nenqueue = [{ precision = "weights8" }]'  # integer kernels saturate on some processors
    for plain, quick in (("trials = 24", "trials = 1"), ("epochs = 14", "epochs = 1"), ("[search]", start)):
        text = text.replace(plain, quick)
    (here / "mine" / "study.toml").write_text(text)
    front = run_study(here / "mine")
    assert len(front.points) == 1 and metric in front.points[0].figures
    assert command("export", "mine", "--trial", "0", "--out", "small").code == 0
    found = subprocess.run([sys.executable, "small/example.py"], capture_output=True, text=True, check=True)
    assert found.stdout


AUGMENTED = """import numpy as np

classes = np.arange(60) % 3

def both(inputs):
    return {"train": (inputs[:45], classes[:45]), "test": (inputs[45:], classes[45:])}

random = np.random.default_rng(0)
images = lambda: both(random.integers(0, 256, (60, 3, 16, 16)).astype("uint8"))
spectrograms = lambda: both(random.normal(size=(60, 1, 16, 24)).astype("float32"))
series = lambda: both(random.normal(size=(60, 8, 24)))
table = lambda: both(random.normal(size=(60, 5)))
counts = lambda: both(random.integers(0, 9, (60, 5)))
augment = lambda batch, generator: batch
"""


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("images", "shift flip crop erase cutmix mixup"),
        pytest.param("spectrograms", "shift flip crop erase cutmix spec_augment mixup", marks=pytest.mark.slow),
        pytest.param("series", "spec_augment mixup", marks=pytest.mark.slow),
        ("table", "mixup"),
        pytest.param("counts", "", marks=pytest.mark.slow),
    ],
)
def test_its_commented_augmentation_fits_the_input(name: str, keys: str, here: Path) -> None:
    (here / "my_data.py").write_text(AUGMENTED)
    study, _ = write_starter(Starter(folder=here / "mine", data=f"my_data:{name}"))
    head, data, rest = re.split(r"(\[data\].*?\n\n)", study.read_text(), flags=re.DOTALL)
    study.write_text(head + data.replace("\n# ", "\n") + rest)
    found = tomllib.loads(study.read_text())["data"]
    assert list(found) == ["factory", *keys.split(), "augment", "views"]
    gather(read_study(study))


def test_nothing_is_written_over_and_a_model_needs_weights(command: Command, own: Path) -> None:
    (own / "space.py").write_text("mine")
    assert "space.py exists" in command("init", ".").line
    assert (own / "space.py").read_text() == "mine"
    (own / "teacher.pt").unlink()
    words = ("init", "mine", "--model", "my_models:build", "--data", "my_data:load")
    assert "--model needs --weights" in command(*words).line


@pytest.mark.parametrize(
    ("folder", "name"), [("_my stüdy\n# 1.2", "my-st-dy-1.2"), pytest.param("研究", "study", marks=pytest.mark.slow)]
)
def test_the_name_comes_from_any_folder(folder: str, name: str, tmp_path: Path) -> None:
    write_starter(Starter(folder=tmp_path / folder, data="digits"))
    assert read_study(tmp_path / folder).spec.name == name
