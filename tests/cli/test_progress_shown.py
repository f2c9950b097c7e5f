"""Progress on stderr: bars with a summary of the front in a terminal, nothing if quiet, always a log."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from nas_compress.cli.progress_bar import BarReporter, LineReporter, summary_line
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_records
from nas_compress.runs.results import read_front
from running import Command, write_study


def test_the_summary_names_the_best_of_each_objective(finished: Path) -> None:
    front = read_front(RunFolder(root=finished / "run"))
    line = summary_line(front)
    best = max(point.figures["accuracy"] for point in front.members)
    assert line.startswith(f"front of {len(front.members)}  hypervolume {front.hypervolume():.4f}  ")
    assert f"best accuracy {100 * best:.4g} %" in line
    assert "best latency" in line
    assert "best file size" in line


def test_a_terminal_sees_trials_epochs_and_the_summary(finished: Path) -> None:
    folder, screen = RunFolder(root=finished / "run"), io.StringIO()
    front, record = read_front(folder), read_records(folder)[0]
    with BarReporter(Console(file=screen, force_terminal=True, width=160)) as reporter:
        reporter.begin(1, 5)
        reporter.stage("trial 1", 3, 14)
        reporter.trial(record, front, 2, 5)
    seen = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    assert "[2/5] trial 0: " in seen
    last = seen[seen.rindex("front of") :]
    assert summary_line(front) in last
    assert re.search(r"trials .*2/5", last)
    assert re.search(r"trial 1 .*3/14", last)


def test_a_terminal_sees_the_trial_of_each_worker(finished: Path) -> None:
    folder, screen = RunFolder(root=finished / "run"), io.StringIO()
    front, record = read_front(folder), read_records(folder)[0]
    with BarReporter(Console(file=screen, force_terminal=True, width=160)) as reporter:
        reporter.begin(0, 5)
        reporter.stage("teacher answers", 9, 9)
        reporter.stage("worker 2, trial 10", 0, 14)
        reporter.stage("worker 1, trial 0", 14, 14)
        reporter.trial(record, front, 1, 5)
        reporter.stage("worker 1, trial 11", 3, 14)
    seen = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    last = seen[seen.rindex("front of") :]
    assert re.search(r"worker 1, trial 11 .*3/14", last)
    assert re.search(r"worker 2, trial 10, cost of its file .*0/14", last)
    assert "trial 0" not in last and "teacher" not in last


def test_lines_show_all_workers_and_drop_a_dead_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("nas_compress.cli.progress_bar.EVERY_S", 0.0)
    reporter = LineReporter()
    reporter.stage("worker 1, trial 3", 2, 9)
    reporter.stage("worker 2, trial 4", 9, 9)
    reporter.stage("worker 2, trial 3", 0, 9)
    assert capsys.readouterr().err.splitlines() == [
        "worker 1, trial 3: 2/9",
        "worker 1, trial 3: 2/9; worker 2, trial 4, its file measured: 9/9",
        "worker 2, trial 3, cost of its file: 0/9; worker 2, trial 4, its file measured: 9/9",
    ]


def test_a_quiet_run_prints_nothing_and_logs_everything(command: Command, tmp_path: Path) -> None:
    write_study(tmp_path / "study")
    answer = command("run", "study", "--trials", 1, "--quiet")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.splitlines()[-1].startswith("teacher")
    log = (tmp_path / "runs" / "tiny" / "run.log").read_text().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \S", line) for line in log)
    told = [line[20:] for line in log]
    assert told[0] == f"loads space.py (suggest) from {tmp_path / 'study'}"
    assert told[1].startswith("study tiny: 1 trials on ")
    assert [line for line in told if line.startswith("[1/1] trial 0: ")]
    assert "trial 0: 1/1" in told
    command("run", "study", "--trials", 1)
    again = (tmp_path / "runs" / "tiny" / "run.log").read_text().splitlines()
    assert again[: len(log)] == log
    assert any("nothing to do" in line for line in again[len(log) :])
