"""Disk errors: exit code 1, one line, and the run continues once the disk allows it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import nas_compress
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_records
from nas_compress.search.run import run_study
from running import Command, shared_cache, start, write_study


def test_a_full_disk_ends_in_one_line_and_the_run_continues(
    small_disk: Path, command: Command, finished: Path, tmp_path: Path
) -> None:
    answer = command("run", finished / "study", "--out", small_disk / "run")
    assert answer.code == 1, answer
    assert "Traceback" not in answer.err
    line = answer.err.splitlines()[-1]
    assert line.startswith("nas-compress: Cannot write: "), line
    assert line.endswith("run the same command to continue.")
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    assert command("run", finished / "study", "--out", small_disk / "run").code == 0
    assert len(read_records(RunFolder(root=small_disk / "run"))) == 3


@pytest.mark.slow
@pytest.mark.parametrize("limit", [2_000, 20_000])
def test_a_file_size_limit_ends_in_one_line(limit: int, tmp_path: Path) -> None:
    study, log = write_study(tmp_path / "study"), tmp_path / "log"
    process = start(["run", study], cwd=tmp_path, cache=tmp_path / "cache", log=log, limit=limit)
    process.join(60)
    assert process.exitcode == 1, log.read_text()
    assert "Traceback" not in log.read_text()
    line = log.read_text().splitlines()[-1]
    assert line.startswith("nas-compress: "), line
    assert "file too large" in line.lower(), line


@pytest.mark.slow
def test_a_run_continues_after_a_file_size_limit(tmp_path: Path, finished: Path) -> None:
    log = tmp_path / "log"
    arguments = ["run", finished / "study", "--out", tmp_path / "run"]
    process = start(arguments, cwd=tmp_path, cache=shared_cache(), log=log, limit=50_000)
    process.join(60)
    assert process.exitcode == 1, log.read_text()
    finished_before = len(read_records(RunFolder(root=tmp_path / "run")))
    run_study(finished / "study", out=tmp_path / "run")
    assert finished_before < len(read_records(RunFolder(root=tmp_path / "run"))) == 3


@pytest.mark.parametrize("everything", [False, True])
def test_a_full_disk_leaves_no_unfinished_bundle(
    everything: bool, small_disk: Path, command: Command, finished: Path
) -> None:
    chosen = ("--all",) if everything else ("--best", "accuracy")
    for free in (0, 4096, 40_000):
        size = small_disk / "full"
        size.write_bytes(bytes(100 * 1024 - free - 4096))
        answer = command("export", finished / "run", *chosen, "--out", small_disk / "bundles" / "new")
        assert answer.code == 1 and answer.line.startswith("nas-compress: Cannot write: no space left on device"), free
        assert list(small_disk.iterdir()) == [size]
        size.unlink()


def test_a_file_size_limit_leaves_no_unfinished_bundle(tmp_path: Path, finished: Path) -> None:
    arguments = ["export", finished / "run", "--all", "--out", tmp_path / "bundles"]
    process = start(arguments, cwd=tmp_path, cache=shared_cache(), log=tmp_path / "log", limit=3_000)
    process.join(60)
    assert process.exitcode == 1, (tmp_path / "log").read_text()
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert line.startswith("nas-compress: Cannot write: file too large")
    assert not (tmp_path / "bundles").exists()


def test_a_folder_without_write_permission(command: Command, finished: Path) -> None:
    place = Path("/sys/nas-compress-run")
    answer = command("run", finished / "study", "--out", place)
    assert answer.code == 1
    assert answer.line.startswith("nas-compress: Cannot write: ")
    assert str(place) in answer.line
    answer = command("export", finished / "run", "--best", "accuracy", "--out", place)
    assert answer.code == 1
    assert str(place) in answer.line


def test_a_cache_without_write_permission(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_COMPRESS_CACHE", "/sys/nas-compress-cache")
    write_study(tmp_path / "study")
    answer = command("run", "study")
    assert answer.code == 1
    assert "Traceback" not in answer.err
    assert "/sys/nas-compress-cache" in answer.err.splitlines()[-1]


def test_a_closed_pipe_is_no_error() -> None:
    shell = f"{sys.executable} -m nas_compress list losses | true; exit ${{PIPESTATUS[0]}}"
    environment = os.environ | {"PYTHONPATH": str(Path(nas_compress.__file__).parents[1])}
    answer = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, env=environment)
    assert answer.stderr == ""
    assert answer.returncode in (0, 1)
