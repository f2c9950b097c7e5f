"""Locales without UTF-8, and names of folders in other alphabets and encodings."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from fresh_process import run_commands

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}


@pytest.mark.parametrize(
    ("name", "locale"),
    [
        pytest.param("größer als 3", ASCII, id="ascii"),
        pytest.param(os.fsdecode(b"latin-1 \xff"), {"LC_ALL": "C.UTF-8"}, id="no utf-8", marks=pytest.mark.slow),
    ],
)
def test_every_command_works_in_any_locale_and_folder(
    name: str, locale: dict[str, str], finished: Path, tmp_path: Path
) -> None:
    place = tmp_path / name
    shutil.copytree(finished, place)
    done = run_commands(
        ("show", place / "run"),
        ("status", place / "run"),
        ("list", "losses"),
        ("plot", place / "run", "--out", place / "bild_ß.svg"),
        ("report", place / "run"),
        ("export", place / "run", "--out", place / "büchse"),
        ("measure", place / "büchse" / "model.onnx", "--study", place / "study"),
        ("run", place / "study", "--out", place / "run"),
        ("show", place / "nirgendwo ß"),
        ("run", place / "nirgendwo ß"),
        cwd=place,
        **locale,
    )
    assert done.codes == [0] * 8 + [2] * 2, done.err
    for path in ("bild_ß.svg", "bild_ß-hypervolume.svg", "run/report.html", "büchse/example.py"):
        (place / path).read_text(encoding="utf-8")
    assert "bild_ß.svg" in done.out


@pytest.mark.slow
def test_a_control_character_in_a_name_does_not_reach_the_terminal(finished: Path, tmp_path: Path) -> None:
    place = tmp_path / "a\x1b[31m\nb"
    shutil.copytree(finished, place)
    (place / "study.toml").write_text('name = "x"\n"\\u001b[2J" = 1\n')
    done = run_commands(
        ("plot", place / "run"),
        ("run", place),
        ("show", place / "\x1b]0;title\x07"),
        ("measure", place, "--study", "digits"),
        cwd=tmp_path,
    )
    assert done.codes == [0, 2, 2, 2]
    assert "\x1b" not in done.out + done.err and "\x07" not in done.out + done.err
    assert r"a\x1b[31m\nb" in done.out and len(done.err.splitlines()) == 3
