"""The documentation builds without a warning, holds what the code has, and its commands run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nas_compress.cli.main import commands
from nas_compress.losses.terms import TERMS
from nas_compress.spec.schema import StudySpec
from running import shared_cache

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs")
    out = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", out]
    answer = subprocess.run(
        words, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return out


def test_the_reference_names_every_key_command_and_loss(site: Path) -> None:
    study = (site / "reference" / "study-file" / "index.html").read_text()
    assert all(f"<code>{key}</code>" in study for key in StudySpec.model_fields)
    methods = (site / "reference" / "methods" / "index.html").read_text()
    assert all(name in methods for name in TERMS)
    shown = (site / "reference" / "commands" / "index.html").read_text()
    assert all(f"nas-compress {name} " in shown for name in commands.commands)
    schema = json.loads((site / "study.schema.json").read_text())
    assert schema["properties"].keys() == StudySpec.model_fields.keys()


def test_the_site_asks_no_other_host_for_styles_or_scripts(site: Path) -> None:
    text = (site / "index.html").read_text()
    assert re.findall(r'<(?:script|link)[^>]*(?:src|href)="https?://(?!localhost)[^"]*\.(?:js|css)', text) == []


@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "README.md", ROOT / "examples" / "README.md"], ids=lambda path: path.name
)
def test_every_command_in_a_code_block_is_known_with_its_options(page: Path) -> None:
    blocks = re.findall(r"```(?:sh|text)\n(.*?)```", page.read_text(), re.DOTALL)
    lines = [line.split("  #")[0].split() for block in blocks for line in block.splitlines()]
    for _, name, *words in (line for line in lines if line[:1] == ["nas-compress"]):
        known = {option for item in commands.commands[name].params for option in item.opts}
        assert {word for word in words if word.startswith("--")} <= known, (name, words)


@pytest.mark.slow
def test_the_tutorial_runs_as_printed(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples" / "own", tmp_path / "own")
    (tmp_path / "bin").mkdir()
    for name, words in (("python", ""), ("nas-compress", "-m nas_compress")):
        command = tmp_path / "bin" / name
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
        command.chmod(0o755)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    environment = os.environ | {
        "PATH": path,
        "NAS_COMPRESS_CACHE": str(shared_cache()),
        "PYTHONPATH": str(ROOT / "src"),
    }
    for block in re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / "tutorial.md").read_text(), re.DOTALL):
        answer = subprocess.run(
            ["bash", "-euc", block], cwd=tmp_path / "own", env=environment, capture_output=True, text=True
        )
        assert answer.returncode == 0, (block, answer.stderr)
    assert (tmp_path / "own" / "runs" / "mine" / "report.html").is_file()
    assert (tmp_path / "own" / "student" / "model.onnx").is_file()
