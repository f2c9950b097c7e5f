"""Messages about files: they name the file and the failed action, in one line, and leave nothing behind."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from pathlib import Path

import pytest

from fresh_process import run_commands
from nas_compress.cli.main import commands
from running import Command, snapshot


@pytest.mark.slow
@pytest.mark.skipif(
    not shutil.which("setpriv") and not os.geteuid(), reason="root needs setpriv to respect permissions"
)
def test_permissions_of_files_and_folders(finished: Path, tmp_path: Path) -> None:
    run, study = tmp_path / "run", tmp_path / "study"
    shutil.copytree(finished / "run", run)
    shutil.copytree(finished / "study", study)
    closed, unreadable, deep = tmp_path / "closed", tmp_path / "unreadable.toml", tmp_path / "deep" / "run"
    shutil.copytree(run, deep)
    closed.mkdir()
    unreadable.touch(0o000)
    model = next(run.glob("trials/*/model.onnx"))
    record = run / "trials" / "0" / "outcome.json"
    for path, mode in ((closed, 0o500), (record, 0o000), (deep.parent, 0o600)):
        path.chmod(mode)
    before = snapshot(run, closed)
    done = run_commands(
        ("show", run),
        ("run", unreadable),
        ("measure", model, "--study", unreadable),
        ("init", closed / "new"),
        ("show", deep),
        cwd=tmp_path,
        without_rights=True,
    )
    record.chmod(0o644)
    written = run_commands(
        ("plot", run, "--out", closed / "front.png"),
        ("report", run, "--out", closed / "report.html"),
        ("export", run, "--out", closed / "bundle"),
        ("run", study, "--out", closed / "run"),
        ("measure", model, "--study", study),
        ("run", study, "--out", tmp_path / "new"),
        cwd=tmp_path,
        without_rights=True,
        NAS_COMPRESS_CACHE=str(closed / "cache"),
    )
    for path in (closed, deep.parent):
        path.chmod(0o700)
    assert snapshot(run, closed) == before
    assert written.codes == [1, 1, 1, 1, 0, 1]
    for name in ("front.png", "report.html", "bundle", "run"):
        assert f"Cannot write: permission denied ({closed / name})" in written.err
    assert written.err.count("Cannot write the latency cache") == 1 and '"latency_noisy": true' in written.out
    assert written.err.splitlines()[-1].endswith("Permission denied. Set NAS_COMPRESS_CACHE to another folder.")
    lines = done.err.splitlines()
    assert done.codes == [1, 2, 2, 1, 1], lines
    assert lines[0] == f"nas-compress: Cannot read: permission denied ({record}). Make it readable."
    assert all("must be readable text" in line and str(unreadable) in line for line in lines[1:3])
    assert lines[3].startswith(f"nas-compress: Cannot write: permission denied ({closed / 'new'}). Make it writable")
    assert str(deep) in lines[4] and "writ" not in lines[4]


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "Cannot write: no space left on device (front.png). Free disk space and run the same command"),
        (errno.EROFS, "Cannot write: read-only file system (front.png). Make it writable or use another folder."),
        (errno.EISDIR, "Cannot open: is a directory (front.png). Use another path."),
        (errno.ENOTDIR, "Cannot open: not a directory (front.png). Use another path."),
        (errno.ENAMETOOLONG, "Cannot open: file name too long (front.png). Use another path."),
        (errno.ELOOP, "Cannot open: too many levels of symbolic links (front.png). Use another path."),
        (errno.ENOENT, "Cannot open: no such file or directory (front.png). Use another path."),
        (errno.EIO, "The disk failed: input/output error (front.png). Check it and run the same command to continue."),
        (
            errno.ESTALE,
            "The disk failed: stale file handle (front.png). Check it and run the same command to continue.",
        ),
    ],
)
def test_each_failure_of_a_disk_has_its_line(
    number: int, message: str, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**arguments: object) -> None:
        raise OSError(number, os.strerror(number), "front.png")

    monkeypatch.setattr(commands.commands["plot"], "callback", fail)
    answer = command("plot", "digits")
    assert answer.code == 1 and answer.line.startswith(f"nas-compress: {message}"), answer.line


def test_paths_that_lead_nowhere(command: Command, finished: Path, tmp_path: Path) -> None:
    loop, dangling, long = tmp_path / "loop", tmp_path / "dangling", "x" * 300
    loop.symlink_to(loop)
    dangling.symlink_to(tmp_path / "nothing")
    (tmp_path / "file").touch()
    run, study, before = finished / "run", finished / "study", snapshot(tmp_path)
    for place in (loop, dangling, tmp_path / long, tmp_path / "file" / "x"):
        assert command("run", place).code == 2
        assert command("init", place).code in (1, 2)
        assert command("show", place).code in (1, 2)
        assert str(place)[:200] in command("measure", place, "--study", study).line
        for name in ("plot", "report", "export"):
            out = place / "x.png" if place != dangling else tmp_path / long / "x.png"
            answer = command(name, run, "--out", out)
            assert answer.code in (1, 2) and answer.line
    assert snapshot(tmp_path) == before


def test_what_is_in_the_way_of_a_file_is_named(command: Command, finished: Path, tmp_path: Path) -> None:
    (tmp_path / "folder.png" / "mine").mkdir(parents=True)
    os.mkfifo(tmp_path / "pipe.png")
    for name in ("folder.png", "pipe.png"):
        for line in (command(each, finished / "run", "--out", tmp_path / name).line for each in ("plot", "report")):
            assert f"({tmp_path / name})" in line
    assert stat.S_ISFIFO((tmp_path / "pipe.png").stat().st_mode) and (tmp_path / "folder.png" / "mine").is_dir()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.png", "pipe.png"]


@pytest.mark.parametrize("size", [0, 3_000, 30_000])
def test_a_full_disk_leaves_nothing_of_a_file_behind(
    size: int, small_disk: Path, command: Command, finished: Path
) -> None:
    (small_disk / "filler").write_bytes(bytes(98_304 - size // 4096 * 4096))
    for name, out in (("plot", "front.png"), ("report", "report.html"), ("export", "bundle")):
        answer = command(name, finished / "run", "--out", small_disk / out)
        assert answer.code == 1 or size == 30_000
        if answer.code:
            assert "no space left on device" in answer.line and "Free disk space" in answer.line
            assert [path.name for path in small_disk.iterdir()] == ["filler"]
