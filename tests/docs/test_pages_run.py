"""The commands of the pages run in a shell, line by line."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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
