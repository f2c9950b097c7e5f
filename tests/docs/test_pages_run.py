"""The commands of the pages run in a shell, line by line."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bert_folders import WIDTH, write_bert_folder
from documented import ROOT, blocks
from running import shared_cache, write_study

pytestmark = pytest.mark.slow


@pytest.fixture
def shell(tmp_path: Path) -> dict[str, str]:
    """Return an environment with `python` and `nas-compress` of this package."""
    (tmp_path / "bin").mkdir()
    for name, words in (("python", ""), ("nas-compress", "-m nas_compress")):
        command = tmp_path / "bin" / name
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
        command.chmod(0o755)
    return os.environ | {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "NAS_COMPRESS_CACHE": str(shared_cache()),
        "PYTHONPATH": str(ROOT),
    }


def run(text: str, folder: Path, environment: dict[str, str]) -> str:
    """Run lines in a shell, require success, and return stdout."""
    words = ["bash", "-euc", text]
    answer = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    assert answer.returncode == 0, (text, answer.stderr)
    return answer.stdout


def test_the_tutorial_runs_as_printed(tmp_path: Path, shell: dict[str, str]) -> None:
    own = tmp_path / "own"
    shutil.copytree(ROOT / "docs" / "examples" / "own", own)
    for block in blocks("sh", page=ROOT / "docs" / "pages" / "tutorial.md"):
        run(block.text, own, shell)
    assert (own / "runs" / "mine" / "report.html").is_file()
    assert (own / "student" / "model.onnx").is_file()


def test_the_examples_run_as_their_readme_says(tmp_path: Path, shell: dict[str, str]) -> None:
    shutil.copytree(ROOT / "docs" / "examples", tmp_path / "docs" / "examples")
    for block in blocks("sh", page=ROOT / "docs" / "examples" / "README.md"):
        assert "class" in run(block.text, tmp_path, shell)


def test_a_text_model_is_compressed_as_printed(tmp_path: Path, shell: dict[str, str]) -> None:
    """Two trials of each study, beside a tiny BERT of random weights."""
    pytest.importorskip("tokenizers")
    write_classifier_and_texts(tmp_path)
    page = ROOT / "docs" / "pages" / "compressing-a-text-model.md"
    first, export, few = (block.text for block in blocks("sh", page=page) if not block.text.startswith("pip"))
    (data,) = (block.text for block in blocks("toml", page=page))
    init, *others = first.splitlines()
    run(init, tmp_path, shell)
    study = tmp_path / "reviews" / "study.toml"
    study.write_text(study.read_text().replace("trials = 24", "trials = 2").replace("epochs = 4", "epochs = 1"))
    for line in others:
        answer = run(line, tmp_path, shell)
    assert "teacher" in answer
    assert "good" in run(export, tmp_path, shell)
    (tmp_path / "few").mkdir()
    (tmp_path / "few" / "study.toml").write_text(
        f'name = "few"\nspace = "../taught.py"\ntrials = 2\n[training]\nepochs = 1\nbatch_size = 8\n{data}'
    )
    run(few, tmp_path, shell)
    assert "no_teacher" in (tmp_path / "runs" / "few" / "confirm.csv").read_text()


def write_classifier_and_texts(folder: Path) -> None:
    """Write the folder `my-bert`, reviews.csv, more.csv, and a space whose students learn from the teacher."""
    head = {"classifier.weight": torch.randn(2, WIDTH), "classifier.bias": torch.zeros(2)}
    write_bert_folder(folder / "my-bert", extra=head, architectures=["BertForSequenceClassification"])
    rows = [f"a fine film {number},good\ndull no plot {number},bad\n" for number in range(60)]
    (folder / "reviews.csv").write_text("text,label\n" + "".join(rows))
    (folder / "more.csv").write_text("text\n" + "".join(f"great fun {number}\n" for number in range(20)))
    (folder / "taught.py").write_text(TAUGHT)


TAUGHT = '''"""A mean of embeddings that learns from a teacher."""
from nas_compress.values.candidate import Candidate, LossTerm


def suggest(trial):
    """Propose a width."""
    width = trial.suggest_categorical("width_multiplier", [0.25, 0.5])
    return Candidate(family="text_bag", depths=(1,), width_multiplier=width, losses=(LossTerm(name="kd"),))
'''


def test_the_readmes_commands_run_in_their_order(tmp_path: Path, shell: dict[str, str]) -> None:
    """A small study replaces the one on clothing."""
    own = tmp_path / "own"
    shutil.copytree(ROOT / "docs" / "examples" / "own", own)
    run("python train_teachers.py", own, shell)
    write_study(
        own / "studies" / "fashion-mnist",
        ('name = "tiny"', 'name = "fashion-mnist"'),
        ("train_samples = 200\n", ""),
        ("widths = [8, 16, 16]", "widths = [16, 32, 64]"),
        ("[training]\nepochs = 1", "[training]\nepochs = 8"),
    )
    (block,) = (block for block in blocks("sh", page=ROOT / "README.md") if "nas-compress init" in block.text)
    for line in block.text.splitlines():
        if shlex.split(line)[:2] == ["nas-compress", "dashboard"]:
            serve(line, own, shell)
        else:
            run(line, own, shell)
    assert (own / "balanced" / "model.onnx").is_file() and (own / "front.svg").is_file()


def serve(line: str, folder: Path, environment: dict[str, str]) -> None:
    """Start a server, and stop it after it has printed its address."""
    words = [*shlex.split(line, comments=True), "--port", "0"]
    with subprocess.Popen(words, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            assert process.stderr.readline().startswith("http://127.0.0.1:")
        finally:
            process.terminate()
