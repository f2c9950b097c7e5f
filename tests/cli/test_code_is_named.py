"""Commands that load code of the user say so first, and bundles train again next to it."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from nas_compress.runs.bundle import export_bundle
from nas_compress.runs.folder import RunFolder
from nas_compress.search.run import run_study
from running import Command, command_in, quick_and_apart
from running import own_cache as own_cache

DATA = """import numpy as np

def load():
    labels = np.arange(90) % 3
    images = np.random.default_rng(0).integers(0, 60, (90, 1, 8, 8), dtype=np.uint8)
    images[np.arange(90), :, 2 * labels] += 150
    return {"train": (images[:60], labels[:60]), "test": (images[60:], labels[60:])}
"""

NET = """from torch import nn

class Net(nn.Sequential):
    def forward(self, samples):
        return super().forward(samples.float() / 255)

def build():
    return Net(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 3))
"""

SPACE = '''"""One student."""
from nas_compress.values.candidate import Candidate


def suggest(trial):
    return Candidate(family="resnet", depths=(1, 1, 1), width_multiplier=trial.suggest_categorical("width", [0.25]))
'''

STUDY = """
name = "named"
space = "own_space.py"
trials = 1
[data]
factory = "own_data:load"
[teacher]
factory = "own_net:build"
weights = "WEIGHTS"
[training]
epochs = 1
batch_size = 20
[search]
sampler = "random"
stop = "none"
"""

FILES = {"own_data.py": DATA, "own_net.py": NET, "own_space.py": SPACE}
CODE = ("own_data.py (own_data:load)", "own_net.py (own_net:build)")


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    return command_in(monkeypatch, capfd)


@pytest.fixture(autouse=True)
def forget_modules() -> Iterator[None]:
    yield
    for name in ("own_data", "own_net"):
        sys.modules.pop(name, None)


def write_code(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in FILES.items():
        (folder / name).write_text(text)
    names: dict[str, object] = {}
    torch.manual_seed(0)
    exec(NET + "\nnetwork = build()", names)
    save_file(names["network"].state_dict(), folder / "net.safetensors")  # type: ignore[attr-defined]
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `study/`, whose weights have an absolute path, its `run/` and the `bundle/` of its student."""
    folder = tmp_path_factory.mktemp("home")
    with quick_and_apart() as patch:
        patch.chdir(folder)
        code = write_code(folder / "study")
        (code / "study.toml").write_text(STUDY.replace("WEIGHTS", str(code / "net.safetensors")))
        run_study(code, out=folder / "run")
        export_bundle(RunFolder(root=folder / "run"), 0, folder / "bundle")
    return folder


def loaded(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("loads ")]


@pytest.mark.parametrize("quiet", [pytest.param(False, marks=pytest.mark.slow), True])
def test_run_names_code_first_and_quiet_only_logs_it(quiet: bool, command: Command, home: Path, tmp_path: Path) -> None:
    lines = [f"loads {name} from {home / 'study'}" for name in ("own_space.py (suggest)", *CODE)]
    shutil.copytree(home / "run", tmp_path / "run")
    before = (tmp_path / "run" / "run.log").read_text()
    answer = command("run", home / "study", "--out", tmp_path / "run", *["--quiet"] * quiet)
    assert answer.code == 0, answer.err
    assert answer.err.splitlines()[:3] == ([] if quiet else lines)
    log = (tmp_path / "run" / "run.log").read_text().removeprefix(before)
    assert [line.split(" ", 2)[2] for line in log.splitlines()[:3]] == lines


def test_measure_names_code_on_stderr_only(command: Command, home: Path) -> None:
    answer = command("measure", home / "bundle" / "model.onnx", "--study", home / "study")
    assert answer.code == 0, answer.err
    assert loaded(answer.err)[1:] == [f"loads {name} from {home / 'study'}" for name in CODE]
    assert json.loads(answer.out)["split"] == "validation"


@pytest.mark.slow
def test_confirm_names_code_and_takes_it_from_the_users_own_study(command: Command, home: Path, tmp_path: Path) -> None:
    run = shutil.copytree(home / "run", tmp_path / "run")
    answer = command("confirm", run, "--seeds", 1)
    assert answer.code == 0, answer.err
    assert loaded(answer.err) == [f"loads {name} from {home / 'study'}" for name in CODE]
    own = write_code(tmp_path / "own")
    shutil.copy(home / "study" / "study.toml", own)
    answer = command("confirm", run, "--seeds", 1, "--study", own)
    assert answer.code == 0, answer.err
    assert loaded(answer.err) == [f"loads {name} from {own}" for name in CODE]


def test_confirm_refuses_another_study(command: Command, home: Path, tmp_path: Path) -> None:
    own = write_code(tmp_path / "own")
    (own / "study.toml").write_text((home / "study" / "study.toml").read_text().replace("own_net", "other_net"))
    answer = command("confirm", home / "run", "--study", own)
    assert answer.code == 2
    assert "--study must be the study of the run, but study.toml has teacher.factory = 'other_net:build'" in answer.line
    assert loaded(answer.err) == []


@pytest.mark.parametrize("inside", [False, True])
def test_confirm_loads_no_code_from_the_run_folder(
    inside: bool, command: Command, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run folder is the working folder, or the recorded folder of the study."""
    run = shutil.copytree(home / "run", tmp_path / "run")
    shutil.copytree(run, tmp_path / "kept")
    code = write_code(run / "code" if inside else run)
    for name in ("own_data.py", "own_net.py"):
        (code / name).write_text("raise AssertionError('loaded')\n")
    record_study_folder(run, code if inside else tmp_path / "nowhere")
    monkeypatch.chdir(run)
    answer = command("confirm", run)
    assert answer.code == 2
    assert f"must be outside its folder, but own_data:load is {code / 'own_data.py'}; name your own" in answer.line


def record_study_folder(run: Path, folder: Path) -> None:
    marker = RunFolder(root=run)
    marker.start({**marker.about(), "study_folder": str(folder)})


def test_a_bundle_has_no_absolute_path_and_names_what_it_needs(home: Path) -> None:
    texts = {path.name: path.read_text() for path in (home / "bundle").iterdir() if path.suffix != ".onnx"}
    assert texts.keys() == {"README.md", "config.json", "example.py", "metrics.json", "required_operators.config"}
    assert [name for name, text in texts.items() if str(home) in text or str(home.parent) in text] == []
    config = json.loads(texts["config.json"])
    assert "study_folder" not in config
    assert config["study"]["teacher"]["weights"] == "net.safetensors"
    needs = "It needs `own_data`, `own_net`, `net.safetensors` next to config.json or in the working folder."
    assert needs in texts["README.md"]


@pytest.mark.parametrize("place", ["beside", pytest.param("working", marks=pytest.mark.slow)])
def test_a_bundle_trains_again_with_code_beside_it_or_in_the_working_folder(
    place: str, command: Command, home: Path, tmp_path: Path
) -> None:
    bundle = shutil.copytree(home / "bundle", tmp_path / "bundle")
    code = write_code(bundle if place == "beside" else tmp_path)
    answer = command("run", bundle / "config.json", "--out", tmp_path / "again")
    assert answer.code == 0, answer.err
    assert loaded(answer.err) == [f"loads {name} from {code}" for name in CODE]
    again, first = (path / "trials" / "0" / "model.onnx" for path in (tmp_path / "again", home / "run"))
    assert again.read_bytes() == first.read_bytes()


def test_a_bundle_without_its_code_says_where_it_was_searched(command: Command, home: Path, tmp_path: Path) -> None:
    answer = command("run", home / "bundle" / "config.json")
    assert answer.code == 2
    assert f"searched in {home / 'bundle'}, among the installed packages and in {tmp_path}" in answer.line
    bundle = shutil.copytree(home / "bundle", tmp_path / "bundle")
    (write_code(bundle) / "net.safetensors").unlink()
    answer = command("run", bundle / "config.json")
    assert f"{bundle / 'net.safetensors'} is none and neither is {tmp_path / 'net.safetensors'}" in answer.line


def test_an_older_bundle_keeps_its_study_folder(command: Command, home: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(home / "bundle", tmp_path / "bundle")
    config = json.loads((bundle / "config.json").read_text())
    (bundle / "config.json").write_text(json.dumps({**config, "study_folder": str(home / "study")}))
    answer = command("run", bundle / "config.json")
    assert answer.code == 0, answer.err
    assert loaded(answer.err) == [f"loads {name} from {home / 'study'}" for name in CODE]
