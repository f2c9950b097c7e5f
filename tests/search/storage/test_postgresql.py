"""A real PostgreSQL server: hosts that die, many light workers, a connection that is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_records
from nas_compress.runs.results import read_front
from nas_compress.search.run import run_study
from nas_compress.search.storage.optuna_storage import opened_storage
from postgres import Server, postgres_server
from running import shared_cache, start, wait_until, write_study

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]


@pytest.fixture
def server() -> Iterator[Server]:
    with postgres_server() as server:
        yield server


def figures(root: Path) -> list[tuple[int | str, float, int]]:
    return [
        (point.trial, point.figures["accuracy"], point.figures["size_bytes"])
        for point in read_front(RunFolder(root=root)).members
    ]


def test_eight_hosts_on_an_empty_database_and_one_of_them_dies(server: Server, tmp_path: Path) -> None:
    objectives = ("trials = 3", 'trials = 3\nobjectives = ["accuracy", "size_bytes"]')  # every host finds them alike
    study = write_study(tmp_path / "study", objectives, ("\nepochs = 1\n", "\nepochs = 4\n"))
    run_study(study, out=tmp_path / "teacher", trials=1)  # the hosts find it in the cache
    shared, total, runs = tmp_path / "shared", 24, []
    words = ["run", study, "--storage", server.url, "--shared", shared, "--trials", total, "--out"]
    for number in range(8):
        log = tmp_path / f"{number}.log"
        runs.append(start([*words, tmp_path / f"{number}"], cwd=tmp_path, cache=shared_cache(), log=log))
    with opened_storage(server.url, tmp_path / "none") as storage:
        wait_until(lambda: bool(optuna.get_all_study_names(storage=storage)), runs[0])
        told = optuna.load_study(study_name="tiny", storage=storage)
        wait_until((tmp_path / "0" / "run.json").is_file, runs[0])
        name = RunFolder(root=tmp_path / "0").about()["run"]

        def training() -> list[int]:
            folders = [
                tmp_path / "0" / "trials" / str(t.number) for t in told.trials if t.user_attrs.get("run") == name
            ]
            return [
                int(f.name) for f in folders if (f / "candidate.json").is_file() and not (f / "outcome.json").is_file()
            ]

        wait_until(lambda: bool(training()), runs[0])
        assert runs[0].pid is not None
        os.kill(runs[0].pid, signal.SIGKILL)
        for run in runs:
            run.join(900)
        logs = [(tmp_path / f"{number}.log").read_text() for number in range(8)]
        assert [run.exitcode for run in runs] == [-signal.SIGKILL] + [0] * 7, logs
        assert not any("Traceback" in log for log in logs)
        complete = {trial.number for trial in told.trials if trial.state == TrialState.COMPLETE}
        assert len(complete) == total and not any(trial.state == TrialState.RUNNING for trial in told.trials)
        (cut,) = training()
        assert told.trials[cut].state == TrialState.FAIL
        assert any(trial.user_attrs.get("repeats_cut_trial") == cut for trial in told.trials)
        assert server.connections() <= 2, "a host left its connections"
    for number in range(1, 8):
        assert {record.trial for record in read_records(RunFolder(root=tmp_path / str(number)))} == complete
        assert figures(tmp_path / str(number)) == figures(tmp_path / "1")


def test_sixty_four_light_workers_ask_and_tell(server: Server) -> None:
    words = ["-W", "error", ROOT / "benchmarks" / "light_workers.py", "--storage", server.url, "--workers", 1, 64]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    line = [sys.executable, *map(str, words)]
    answer = subprocess.run(line, capture_output=True, text=True, env=environment, timeout=600)
    assert answer.returncode == 0 and answer.stderr == "", answer.stderr
    print(answer.stdout)
    assert [row.split(" | ")[1] for row in answer.stdout.splitlines()[2:]] == ["5", "320"]
    assert server.connections() == 0


def test_a_lost_connection_ends_in_one_line_and_the_run_goes_on(server: Server, tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", ("trials = 3", "trials = 6"), ("\nepochs = 1\n", "\nepochs = 4\n"))
    root = tmp_path / "run"
    words = ["run", study, "--storage", server.url, "--out", root]
    run = start(words, cwd=tmp_path, cache=shared_cache(), log=tmp_path / "log")
    wait_until((root / "trials" / "0" / "outcome.json").is_file, run)
    server.drop()
    run.join(300)
    assert "Traceback" not in (tmp_path / "log").read_text()
    last = (tmp_path / "log").read_text().splitlines()[-1]
    assert run.exitcode == 1 and last.startswith("nas-compress: The storage failed"), last
    kept = [record.outcome for record in read_records(RunFolder(root=root))]
    server.back()
    run_study(study, out=root, storage=server.url)
    after = [record.outcome for record in read_records(RunFolder(root=root))]
    assert len(after) == 6 and [outcome.seconds for outcome in after[: len(kept)]] == [o.seconds for o in kept]


def test_a_server_that_restarts_in_the_middle_of_a_trial_is_not_noticed(server: Server, tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", ("trials = 3", "trials = 2"), ("\nepochs = 1\n", "\nepochs = 60\n"))
    root = tmp_path / "run"
    words = ["run", study, "--storage", server.url, "--out", root]
    run = start(words, cwd=tmp_path, cache=shared_cache(), log=tmp_path / "log")
    wait_until(lambda: any((root / "checkpoints").glob("*.pt")), run)
    server.drop()
    server.back()
    run.join(300)
    assert run.exitcode == 0, (tmp_path / "log").read_text()
    assert len(read_records(RunFolder(root=root))) == 2
