"""The journal as a file: its limits, its lines, and files that are no journal."""

from __future__ import annotations

import json
import os
from pathlib import Path

import optuna
import pytest
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend

from nas_compress.errors import DamagedFileError, RunError
from nas_compress.search.storage import journal as limits
from nas_compress.search.storage.journal import Journal, drop_torn_line, read_journal
from nas_compress.search.storage.optuna_storage import known_errors, open_storage


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """A journal with a study of 9 trials."""
    path = tmp_path / "study.journal"
    study = optuna.create_study(study_name="one", storage=JournalStorage(JournalFileBackend(str(path))))
    for _ in range(9):
        trial = study.ask()
        trial.suggest_float("x", 0.0, 1.0)
        study.tell(trial, trial.number / 10)
    return path


def trials(storage: BaseStorage) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name="one", storage=storage).trials


def test_a_journal_of_optuna_is_read_and_continued_so_that_optuna_reads_it(journal: Path) -> None:
    ours = open_storage(None, journal)
    assert trials(ours) == trials(JournalStorage(JournalFileBackend(str(journal))))
    optuna.load_study(study_name="one", storage=ours).tell(optuna.load_study(study_name="one", storage=ours).ask(), 0.5)
    theirs = trials(JournalStorage(JournalFileBackend(str(journal))))
    assert len(theirs) == 10 and trials(ours) == theirs


@pytest.mark.parametrize(
    ("limit", "value", "reason"),
    [
        ("LONGEST_LINE", 200, "a line must have at most 200 bytes"),
        ("LARGEST_JOURNAL", 3000, "a journal must have at most 3000 bytes"),
    ],
)
def test_a_journal_over_a_limit_is_read_up_to_it(
    limit: str, value: int, reason: str, journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, limit, value)
    with pytest.raises(DamagedFileError, match=reason):
        open_storage(None, journal)
    storage, damage = read_journal(journal)
    assert damage is not None and reason in damage.reason
    assert optuna.load_study(study_name="one", storage=storage).study_name == "one"


@pytest.mark.parametrize("text", [b"\0", b"", b"x" * 2000])
def test_a_line_without_an_end_is_not_read_into_memory(text: bytes, tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with path.open("wb") as file:
        file.write(text)
        file.truncate(10**12)
    _, damage = read_journal(path)
    assert damage is not None and damage.line == 1 and "at most 1000000 bytes" in damage.reason


@pytest.mark.parametrize("kind", ["link", "lost link", "folder", "pipe"])
def test_a_journal_that_is_no_file_of_the_folder_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "run" / "study.journal"
    path.parent.mkdir()
    (tmp_path / "elsewhere").write_text("mine")
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(tmp_path / ("elsewhere" if kind == "link" else "nothing"))
    with pytest.raises(DamagedFileError, match=r"study\.journal is damaged: it is (a symbolic link|no plain file)\."):
        open_storage(None, path)
    assert (tmp_path / "elsewhere").read_text() == "mine" and not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("kind", ["damaged", "shorter"])
def test_a_journal_that_changes_during_a_run_ends_it_in_one_line(kind: str, journal: Path) -> None:
    study = optuna.load_study(study_name="one", storage=open_storage(None, journal))
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines, b'{"op_code":5,"worker_id":"a"}\n'] if kind == "damaged" else lines[:1]))
    with pytest.raises(RunError, match=r"^The storage holds .*it repairs study\.journal\.$"), known_errors():
        study.get_trials()


def test_content_twice_is_read_once(journal: Path) -> None:
    once = trials(open_storage(None, journal))
    count = journal.read_bytes().count(b"\n")
    journal.write_bytes(journal.read_bytes() * 2)
    storage, damage = read_journal(journal)
    assert damage is not None and damage.line == count + 1 and "it repeats the first line" in damage.reason
    assert trials(storage) == once


@pytest.mark.parametrize(
    "line",
    [
        b"one",
        b"[1]",
        b"{}",
        b'"op_code"',
        b"\xff\xfe",
        b"[" * 100_000,
        b"9" * 5000,
        b'{"op_code":99,"worker_id":"a"}',
        b'{"op_code":4,"worker_id":"a","study_id":0,"datetime_start":"today"}',
        b'{"op_code":4,"worker_id":"a","study_id":0,"datetime_start":null,"state":9}',
        b'{"op_code":4,"worker_id":"a","study_id":0,"datetime_start":null,"distributions":{"x":"os.system"}}',
        b'{"op_code":8,"worker_id":"a","trial_id":[],"user_attr":{}}',
    ],
)
def test_a_line_that_optuna_cannot_apply_is_named(line: bytes, journal: Path) -> None:
    count = journal.read_bytes().count(b"\n")
    with journal.open("ab") as file:
        file.write(line + b"\n")
    with pytest.raises(DamagedFileError, match=rf"study\.journal is damaged at line {count + 1} \([^\n]*\)[^\n]*$"):
        open_storage(None, journal)


def test_no_storage_reads_pickles() -> None:
    assert not hasattr(Journal, "load_snapshot"), "Optuna unpickles snapshots"


@pytest.mark.parametrize(("text", "kept"), [("one\ntwo", "one\n"), ("one\n", "one\n"), ("torn", ""), ("", "")])
def test_only_an_unfinished_last_line_is_dropped(text: str, kept: str, tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_text(text)
    drop_torn_line(path)
    assert path.read_text() == kept
    path.write_text(text and "x" * 200_000 + "\n" + "y" * 200_000)
    drop_torn_line(path)
    assert path.read_text() == (text and "x" * 200_000 + "\n")


def test_lines_are_those_of_optuna(journal: Path) -> None:
    assert [*Journal(journal).read_logs(0)] == [json.loads(line) for line in journal.read_bytes().splitlines()]
    assert [*Journal(journal, end=2).read_logs(0)] == [*Journal(journal).read_logs(0)][:2]
