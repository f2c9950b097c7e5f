"""Each command on a run with a damaged file: one line and exit code 1, or an answer that does not need the file."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from nas_compress.runs.folder import RunFolder
from nas_compress.runs.results import read_front
from running import Command, snapshot

FROM_RECORDS = (("status",), ("show",), ("plot", "--out", "front.svg"))
"""Commands that need no model file."""

FROM_MODELS = (("show", "--trial", "{member}"), ("report", "--out", "page.html"), ("export", "--out", "bundle"))
"""Commands that read the file of a member."""


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of a finished run of five trials that may be changed."""
    return shutil.copytree(finished / "run", tmp_path / "run")


def arguments(run: Path, words: tuple[str, ...], member: int) -> list[object]:
    return [words[0], run, *(word.format(member=member) for word in words[1:])]


@pytest.mark.parametrize("words", [*FROM_RECORDS, *FROM_MODELS], ids=" ".join)
@pytest.mark.parametrize("name", ["run.json", "trials/{member}/outcome.json", "teacher/outcome.json"])
def test_a_damaged_record_ends_every_command_in_one_line(
    name: str, words: tuple[str, ...], command: Command, run: Path
) -> None:
    member = read_front(RunFolder(root=run)).members[0].trial
    path = run / name.format(member=member)
    path.write_bytes(path.read_bytes()[:-20])
    before = snapshot(run)
    answer = command(*arguments(run, words, int(member)))
    assert answer.code == 1 and answer.out == ""
    assert answer.line.startswith(f"nas-compress: {path} is damaged: ") and "Restore it from a copy, or " in answer.line
    assert snapshot(run) == before and not Path("bundle").exists() and not Path("page.html").exists()


@pytest.mark.parametrize("words", FROM_MODELS, ids=" ".join)
def test_a_damaged_model_ends_the_commands_that_read_it(words: tuple[str, ...], command: Command, run: Path) -> None:
    front = read_front(RunFolder(root=run))
    for point in front.members:
        (run / point.model).write_bytes((run / point.model).read_bytes() * 2)
    answer = command(*arguments(run, words, int(front.members[0].trial)))
    assert answer.code == 1 and answer.out == ""
    assert "model.onnx is not the file that was measured: its SHA-256 differs. Restore it from a copy" in answer.line
    assert not Path("bundle").exists() and not Path("page.html").exists()


@pytest.mark.parametrize("words", FROM_RECORDS, ids=" ".join)
def test_commands_that_need_no_model_answer_as_before(
    words: tuple[str, ...], command: Command, finished: Path, run: Path
) -> None:
    known = command(*arguments(finished / "run", words, 0))
    for path in run.rglob("*.onnx"):
        path.write_bytes(b"")
    answer = command(*arguments(run, words, 0))
    assert (answer.code, answer.err) == (known.code, known.err) == (0, "")
    assert answer.out == known.out
