"""The measure of prose in .ci/prose.py counts as described and fails above its limits."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from documented import ROOT


@pytest.fixture(scope="module")
def prose() -> ModuleType:
    spec = importlib.util.spec_from_file_location("prose", ROOT / ".ci" / "prose.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_counts_docstrings_of_code_and_paragraphs_of_pages(prose: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text(
        '"""Return the size. What a file that nobody opens tells."""\nwhat = "which that"\n'
    )
    (tmp_path / "page.md").write_text("# What is it\n\nIt is small.\n\n```sh\nwhat which\n```\n\n| what | which |\n")
    lines = [line for text in prose.texts(tmp_path) for line in prose.sentences(text)]
    assert lines == ["Return the size.", "What a file that nobody opens tells.", "It is small."]
    assert list(prose.figures(lines).values()) == pytest.approx([100 * 2 / 13, 100 / 3, 100 / 13])


def test_it_fails_above_a_limit_and_names_the_sentence(
    prose: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text("The file is small. It has four outputs.\n")
    assert prose.main([str(page)]) == 0
    page.write_text("Whether it stands, the file that tells it knows which.\n")
    assert prose.main([str(page), "--worst"]) == 1
    assert "Whether it stands" in capsys.readouterr().out
