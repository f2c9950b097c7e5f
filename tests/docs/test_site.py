"""The documentation builds without warnings, covers all methods, and its commands exist."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from documented import PAGES, ROOT, blocks
from nas_compress.cli.main import commands
from nas_compress.config.schema import StudySpec
from nas_compress.config.search_section import SearchSection
from nas_compress.losses.table import TERMS
from nas_compress.models.families import FAMILIES
from nas_compress.pruning.depth import KEPT_BLOCKS
from nas_compress.pruning.importance_criteria import CRITERIA
from nas_compress.pruning.ranking import RANKINGS
from nas_compress.search.samplers.table import SAMPLERS
from nas_compress.stopping.table import RULES
from nas_compress.values.candidate import Candidate, LossTerm, Quantization, Teaching
from nas_compress.values.precision import METHODS
from nas_compress.values.teaching import TEACHERS


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs")
    out = tmp_path_factory.mktemp("site")
    words = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--config-file",
        "docs/mkdocs.yml",
        "--quiet",
        "--site-dir",
        out,
    ]
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


def test_every_method_has_a_page_with_its_source_and_cost(site: Path) -> None:
    shown = {path.parent.name for path in site.glob("reference/methods/*/*/index.html")}
    assert {*TERMS, *TEACHERS, *CRITERIA, *RANKINGS, *KEPT_BLOCKS, *FAMILIES, *METHODS, *SAMPLERS, *RULES} <= shown
    page = (site / "reference" / "methods" / "losses" / "dkd" / "index.html").read_text()
    for words in (
        "https://arxiv.org/abs/2203.08679",
        "its answers come from a cache shared by all trials",
        "beta",
        "(B, C)",
    ):
        assert words in page, words
    assert 'href="../kd/"' in page, "the navigation names every method"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_command_in_a_code_block_is_known_with_its_options(page: Path) -> None:
    lines = [
        shlex.split(line, comments=True)
        for block in blocks("sh", "text", page=page)
        for line in block.text.splitlines()
    ]
    for _, name, *words in (line for line in lines if line[:1] == ["nas-compress"]):
        known = {option for item in commands.commands[name].params for option in item.opts}
        assert {word for word in words if word.startswith("--")} <= known, (name, words)


def test_contributing_lists_the_folders_from_high_to_low() -> None:
    shown = re.findall(r"`(\w+)(?:/|\.py)`", "".join(re.findall(r"^\| (`.*?) \|", _code_section(), re.MULTILINE)))
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    layers = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    floors = {name.strip(): floor for floor, names in enumerate(layers) for name in names.split("|")}
    assert {*shown, "__main__"} == floors.keys()
    assert [floors[name] for name in shown] == sorted(floors[name] for name in shown)


def test_contributing_names_files_that_exist() -> None:
    named = re.findall(r"`([a-z_]+/[a-z_/]+\.py)`", (ROOT / "CONTRIBUTING.md").read_text())
    assert len(named) >= 10
    places = (ROOT / "nas_compress", ROOT)
    assert [name for name in named if not any((place / name).is_file() for place in places)] == []


def _code_section() -> str:
    return (ROOT / "CONTRIBUTING.md").read_text().split("## The code")[1].split("## Text")[0]


def test_the_readme_stays_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_every_snippet_of_a_method_is_valid() -> None:
    sys.path.insert(0, str(ROOT / "docs" / "build"))
    from method_pages import method_pages

    names = {value.__name__: value for value in (Candidate, LossTerm, Quantization, Teaching)}
    for method in (method for methods in method_pages().values() for method in methods):
        if method.language == "toml":
            SearchSection.model_validate(tomllib.loads(method.use)["search"])
        else:
            exec(method.use, dict(names))
