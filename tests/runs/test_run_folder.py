from __future__ import annotations

import errno
from pathlib import Path

import portalocker
import pytest

from nas_compress.errors import RequestError, RunError
from nas_compress.runs.folder import RunFolder, open_run, require_free
from running import ABOUT


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make_run(root: Path) -> Path:
    RunFolder(root=root).start(ABOUT)
    return root


def test_a_run_is_found_by_its_folder_and_by_its_name() -> None:
    make_run(Path("runs/mine"))
    make_run(Path("elsewhere"))
    assert open_run("mine").root == Path("runs/mine")
    assert open_run("runs/mine").root == Path("runs/mine")
    assert open_run("elsewhere").root == Path("elsewhere")


def test_a_foreign_folder_of_the_same_name_does_not_hide_a_run() -> None:
    make_run(Path("runs/digits"))
    Path("digits").mkdir()
    assert open_run("digits").root == Path("runs/digits")


@pytest.mark.parametrize("text", ["{}", "[]", "not json", '{"format": "of somebody else"}', ""])
def test_a_marker_that_is_not_ours_is_refused(text: str) -> None:
    Path("foreign").mkdir()
    Path("foreign/run.json").write_text(text)
    with pytest.raises(RequestError, match=r"but foreign has no run.json of ours"):
        open_run("foreign")


def test_an_empty_folder_and_a_wrong_name_are_told_apart() -> None:
    with pytest.raises(RequestError, match="got 'mime'; there are no runs yet"):
        open_run("mime")
    make_run(Path("runs/mine"))
    Path("empty").mkdir()
    with pytest.raises(RequestError, match="but empty is empty"):
        open_run("empty")
    with pytest.raises(RequestError, match="got 'mime'; did you mean 'mine'"):
        open_run("mime")


def test_a_folder_with_other_files_is_not_taken(tmp_path: Path) -> None:
    require_free(tmp_path / "new")
    require_free(make_run(tmp_path / "run"))
    (tmp_path / "foreign").mkdir()
    require_free(tmp_path / "foreign")
    (tmp_path / "foreign" / "thesis.tex").touch()
    with pytest.raises(RequestError, match=r"such as thesis.tex"):
        require_free(tmp_path / "foreign")
    with pytest.raises(RequestError, match="is a file"):
        require_free(tmp_path / "foreign" / "thesis.tex")
    for text in ("{}", "", "[1]"):
        (tmp_path / "new").mkdir(exist_ok=True)
        (tmp_path / "new" / "run.json").write_text(text)
        with pytest.raises(RequestError, match=r"run.json is not a whole run.json of nas-compress"):
            require_free(tmp_path / "new")


def test_the_lock_is_given_back_and_held_only_once(tmp_path: Path) -> None:
    folder = RunFolder(root=make_run(tmp_path / "run"))
    with folder.locked(), pytest.raises(RunError, match="Another process runs the study"), folder.locked():
        pass
    with folder.locked():
        pass


def test_a_lock_leaves_no_folder_behind_where_nothing_was_made(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="refused"), RunFolder(root=tmp_path / "new").locked():
        raise ValueError("refused")
    assert not (tmp_path / "new").exists()


def test_a_disk_without_file_locks_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def lock(handle: object, kind: object) -> None:
        error = OSError(errno.ENOLCK, "No locks available")
        raise portalocker.LockException(error, str(error))

    monkeypatch.setattr("portalocker.lock", lock)
    rule = r"must be on a disk with file locks, but .*mine got .*No locks available"
    with pytest.raises(RunError, match=rule), RunFolder(root=Path("mine")).locked():
        pytest.fail("it was locked")
