"""Every command of the documentation runs on a finished run; slow tests run those that train."""

from __future__ import annotations

import re
import shlex
import shutil
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import save_file
from sklearn.datasets import load_digits

from documented import ROOT, Block, blocks, command_lines
from nas_compress.cli.main import commands
from nas_compress.config.search_space import load_space, sample_space
from nas_compress.config.study_file import parse_spec, read_study
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_records
from nas_compress.runs.results import read_front, write_front
from nas_compress.runs.saved_epochs import savings
from running import Command, change_record, quick_and_apart

LOOKING = ("status", "show", "verify", "plot", "export", "measure", "agent", "list")
"""Commands of at most a second."""

TRAINING = ("init", "check", "run", "report", "confirm", "dashboard")
"""Commands run by the slow tests in tests/docs."""

ELSEWHERE = ("./build.sh", "pip", "pytest", ".ci/check", "python", "cd", "export", "scp", "ssh", "ssh-keygen")
"""Other programs; CI and the slow tests run those of this project."""


@pytest.fixture(scope="module")
def finished_runs(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the runs named by the pages, with the figures of a longer search."""
    folder = tmp_path_factory.mktemp("documented")
    shutil.copytree(finished / "study", folder / "studies" / "fashion-mnist")
    for name in ("digits", "fashion-mnist", "mine", "own-arrays", "reviews"):
        run = folder / "runs" / name
        shutil.copytree(finished / "run", run)
        known = RunFolder(root=run)
        known.start(known.about() | {"study_folder": str(folder / "studies" / "fashion-mnist")})
        for record in read_records(known):
            change_record(run, record.trial, _as_after_a_longer_search)
        front = read_front(known)
        write_front(known, front, savings(read_records(known), front))
    (folder / "small").mkdir()
    shutil.copy(run / read_front(RunFolder(root=run)).members[0].model, folder / "small")
    return folder


def _as_after_a_longer_search(record: dict[str, Any]) -> None:
    measured = record["outcome"]["measured"]
    if "accuracy" in measured:
        measured |= {"accuracy": 0.95 + measured["accuracy"] / 20, "size_bytes": measured["size_bytes"] // 4}


def test_every_line_is_run_by_a_test() -> None:
    for words in command_lines():
        known = words[1] in LOOKING + TRAINING if words[0] == "nas-compress" else words[0] in ELSEWHERE
        assert known, words


def test_the_commands_for_other_machines_parse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parse the commands that no test can run: SLURM, Kubernetes, a cluster."""
    page = ROOT / "docs" / "pages" / "several-machines.md"
    found = [" ".join(block.text.split()) for block in blocks("yaml", page=page)]
    found += [line for block in blocks("sh", "bash", page=page) for line in block.text.splitlines()]
    lines = [re.search(r"nas-compress run .*?(?= envFrom|$)", line) for line in found]
    runs = [shlex.split(line.group()) for line in lines if line]
    monkeypatch.setenv("NAS_COMPRESS_STORAGE", "postgresql://me@db/studies")
    assert len(runs) == 6
    for words in runs:
        understood = commands.commands["run"].make_context("run", words[2:])
        assert understood.params["storage"] and understood.params["shared"] and understood.params["trials"] == 500


@pytest.mark.parametrize("name", LOOKING)
def test_quick_commands_run(name: str, command: Command, finished_runs: Path) -> None:
    lines = [words for words in command_lines() if words[:2] == ["nas-compress", name]]
    assert lines
    for words in lines:
        with quick_and_apart() as patch:
            patch.chdir(finished_runs)
            if name == "export":
                shutil.rmtree(words[words.index("--out") + 1], ignore_errors=True)
            answer = command(*words[1:])
        assert answer.code == 0, (words, answer.err)
        assert answer.out


@pytest.mark.parametrize("block", blocks("toml"), ids=str)
def test_every_study_file_and_every_section_is_valid(block: Block, tmp_path: Path) -> None:
    values = tomllib.loads(block.text)
    whole = {"name": "mine", "space": "cnn", "data": {"name": "digits"}} | values
    (tmp_path / "study.toml").write_text(block.text)
    if {"name", "space", "data"} <= values.keys():
        assert read_study(tmp_path / "study.toml").spec.name == values["name"]
    spec = parse_spec(whole, "study.toml")
    assert {"devices" if name == "device" else name for name in values} <= spec.model_fields_set


@pytest.mark.parametrize("block", [b for b in blocks("python") if not b.text.startswith("# my_")], ids=str)
def test_every_block_of_python_runs(block: Block, finished: Path, tmp_path: Path) -> None:
    if "openvino" in block.text:
        pytest.importorskip("openvino")
        shutil.copy(next(finished.rglob("model.onnx")), tmp_path)
    with quick_and_apart() as patch:
        patch.chdir(tmp_path)
        shutil.copytree(finished / "study", tmp_path / "mine")
        exec(block.text, {"__name__": "documented"})
    if "def suggest(" in block.text:
        (tmp_path / "mine" / "space.py").write_text(block.text)
        space = load_space("space.py", folder=tmp_path / "mine", shipped=tmp_path)
        assert len({item.shape.family for item in sample_space(space, draws=20, seed=0).candidates}) == 2


def test_the_readmes_ten_lines_make_a_study(command: Command, tmp_path: Path) -> None:
    for block in blocks("python", page=ROOT / "README.md"):
        if block.text.startswith("# my_"):
            code = [line for line in block.text.splitlines()[1:] if line.strip()]
            assert len(code) <= 10
            (tmp_path / block.text.splitlines()[0].removeprefix("# ")).write_text(block.text)
    assert {path.name for path in tmp_path.glob("*.py")} == {"my_data.py", "my_models.py"}
    digits = load_digits()
    np.save("images.npy", digits.images.astype(np.uint8)[:, None])
    np.save("labels.npy", digits.target)
    names: dict[str, object] = {}
    exec((tmp_path / "my_models.py").read_text() + "\nnetwork = build()", names)
    save_file(names["network"].state_dict(), "teacher.safetensors")  # type: ignore[attr-defined]
    (line,) = (words for words in command_lines() if words[:2] == ["nas-compress", "init"] and words[2] == "mine")
    answer = command(*line[1:])
    assert answer.code == 0, answer.err
    assert (tmp_path / "mine" / "study.toml").is_file()
