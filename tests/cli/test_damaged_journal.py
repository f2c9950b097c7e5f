"""A damaged journal: `run` repairs it by the records, `dashboard` refuses it, and the other commands do not read it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from nas_compress.dashboard.server import dashboard_server
from nas_compress.errors import NasCompressError
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_records
from running import Command, sketch_pictures


@pytest.fixture
def run(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    sketch_pictures(monkeypatch)
    shutil.copytree(finished / "study", tmp_path / "study")
    return RunFolder(root=shutil.copytree(finished / "run", tmp_path / "run"))


def in_the_middle(journal: Path) -> None:
    content = journal.read_bytes()
    place = len(content) // 2
    journal.write_bytes(content[:place] + b"\0\0\0\0" + content[place + 4 :])


def another_study(journal: Path) -> None:
    journal.unlink()
    study = optuna.create_study(study_name="other", storage=JournalStorage(JournalFileBackend(str(journal))))
    study.add_trial(optuna.create_trial(value=1.0))


def deep(journal: Path) -> None:
    journal.write_bytes(b"[" * 200_000 + b"\n")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "damaged in the middle": in_the_middle,
    "content twice": lambda journal: journal.write_bytes(journal.read_bytes() * 2),
    "another file": lambda journal: shutil.copyfile(journal.with_name("run.json"), journal),
    "another study": another_study,
    "invalid UTF-8": lambda journal: journal.write_bytes(b"\xff" + journal.read_bytes()),
    "deep JSON": deep,
    "cut off": lambda journal: journal.write_bytes(journal.read_bytes()[: journal.stat().st_size // 2]),
    "empty": lambda journal: journal.write_bytes(b""),
}


def is_link(journal: Path) -> None:
    journal.rename(journal.with_name("moved"))
    journal.symlink_to(journal.with_name("moved"))


def is_link_to_nothing(journal: Path) -> None:
    journal.unlink()
    journal.symlink_to("nothing")


def is_folder(journal: Path) -> None:
    journal.unlink()
    journal.mkdir()


def finished_trials(run: RunFolder) -> list[tuple[int, float, object, object]]:
    """Parts of the records that no later measurement of a latency changes."""
    return [(record.trial, record.finished_s, record.told, record.files) for record in read_records(run)]


@pytest.mark.parametrize("kind", DAMAGES)
def test_run_repairs_a_damaged_journal_and_says_so(kind: str, run: RunFolder, command: Command, tmp_path: Path) -> None:
    before = finished_trials(run)
    DAMAGES[kind](run.journal)
    damaged = run.journal.read_bytes()
    with pytest.raises(NasCompressError, match=r"^[^\n]*study\.journal [^\n]*nas-compress run repairs it[^\n]*$"):
        dashboard_server(run, host="127.0.0.1", port=0).__enter__()
    for words in (("status", run.root), ("show", run.root)):
        assert command(*words).code == 0
    answer = command("run", tmp_path / "study", "--out", run.root, "--trials", 5)
    assert answer.code == 0, answer.err
    (line,) = [line for line in answer.err.splitlines() if "study.journal " in line]
    assert "was made anew" in line and "with 5 finished trials from their records" in line
    assert not damaged or (run.root / "study.journal.damaged-1").read_bytes() == damaged
    assert finished_trials(run) == before
    with dashboard_server(run, host="127.0.0.1", port=0):
        pass
    assert "study.journal " not in command("run", tmp_path / "study", "--out", run.root, "--trials", 5).err


@pytest.mark.parametrize("damage", [is_link, is_link_to_nothing, is_folder])
def test_something_else_than_a_file_is_refused_by_its_name(
    damage: Callable[[Path], None], run: RunFolder, command: Command, tmp_path: Path
) -> None:
    damage(run.journal)
    assert command("status", run.root).code == 0
    with pytest.raises(NasCompressError, match=r"study\.journal"):
        dashboard_server(run, host="127.0.0.1", port=0).__enter__()
    answer = command("run", tmp_path / "study", "--out", run.root, "--trials", 6)
    assert answer.code == 1 and "study.journal is damaged: it is " in answer.line
    assert not (run.root / "nothing").exists() and not (run.root / "trials" / "5").exists()
