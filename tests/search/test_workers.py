"""Real worker processes, one of them killed: the total is exact, and what was cut is repeated."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import optuna
import pytest

from image_files import file_accuracy
from nas_compress.data.load_dataset import load_dataset
from nas_compress.errors import RequestError
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_records
from nas_compress.search.reporter import Silence
from nas_compress.search.run import run_study
from nas_compress.search.storage.optuna_storage import open_storage
from nas_compress.search.storage.recovery import MOST_DEATHS
from running import SPACE, write_study

BOTH_WORKERS_FIRST = (
    SPACE
    + """

import multiprocessing
import os
import time
from pathlib import Path

if multiprocessing.parent_process() is not None:  # a worker imports this file before its first trial
    started = Path(__file__).with_name("started")
    started.mkdir(exist_ok=True)
    (started / str(os.getpid())).touch()
    while len(list(started.iterdir())) < 2:
        time.sleep(0.01)
"""
)
"""A space whose first worker waits for the second one, so that both have trials however slowly they start."""


class Assassin(Silence):
    """Kills one worker after an epoch, once, when both have begun a trial."""

    def __init__(self) -> None:
        self.killed: list[int] = []
        self.told: list[int] = []
        self.stages: list[tuple[str, int, int]] = []

    def stage(self, name: str, done: int, count: int) -> None:
        self.stages.append((name, done, count))
        workers = {name.split(",")[0] for name, _, _ in self.stages if "trial" in name}
        if "trial" in name and done and len(workers) == 2 and not self.killed:
            victim = multiprocessing.active_children()[0]
            assert victim.pid is not None
            os.kill(victim.pid, signal.SIGKILL)
            self.killed.append(victim.pid)

    def trial(self, record: object, front: object, finished: int, total: int) -> None:
        self.told.append(finished)


def test_workers_share_a_study_and_a_killed_one_costs_no_trial(tmp_path: Path) -> None:
    search = ('sampler = "random"', 'sampler = "random"\nstop = "shadow"\nrungs = [1]')
    study = write_study(
        tmp_path / "study",
        ("trials = 3", "trials = 5"),
        ("\nepochs = 1\n", "\nepochs = 2\n"),
        search,
        space=BOTH_WORKERS_FIRST,
    )
    reporter = Assassin()
    front = run_study(study, workers=2, reporter=reporter)
    assert reporter.killed and reporter.told == [1, 2, 3, 4, 5]
    assert not multiprocessing.active_children()
    seen = {name for name, _, _ in reporter.stages if "trial" in name}
    assert {name.split(",")[0] for name in seen} == {"worker 1", "worker 2"}, "each worker says what it does"
    assert all((name, 0, 2) in reporter.stages for name in seen), "before its first epoch too"
    root = tmp_path / "runs" / "tiny"
    records = read_records(RunFolder(root=root))
    trials = optuna.load_study(study_name="tiny", storage=open_storage(None, root / "study.journal")).trials
    complete = [trial.number for trial in trials if trial.state.name == "COMPLETE"]
    assert [record.trial for record in records] == complete and len(complete) == 5
    (cut,) = [trial for trial in trials if trial.state.name != "COMPLETE"]
    assert cut.state.name == "FAIL" and any(trial.params == cut.params for trial in trials if trial is not cut)
    first = [record for record in records if record.repeats is None]
    assert len({record.outcome.candidate for record in first}) == len(first)
    assert all(record.outcome.curve for record in first), "the rule was asked across processes"
    data = load_dataset(name="digits", seed=0, train_samples=200).validation
    for point in front.members:
        assert (
            file_accuracy(root / point.model, data.inputs["input"].numpy(), data.targets["label"].numpy())
            == point.figures["accuracy"]
        )


ONE_POINT = '''"""One student."""
from nas_compress.values.candidate import Candidate


def suggest(trial):
    trial.suggest_categorical("family", ["resnet"])
    return Candidate(family="resnet", depths=(1, 1, 1), width_multiplier=0.5)
'''


class Murderer(Silence):
    """Kills every worker that tells an epoch."""

    deaths = 0

    def stage(self, name: str, done: int, count: int) -> None:
        if "worker" in name and done:
            for process in multiprocessing.active_children():
                process.kill()
            self.deaths += 1


@pytest.mark.slow
def test_a_candidate_that_kills_every_worker_is_a_failed_trial(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", ("\nepochs = 1\n", "\nepochs = 50\n"), space=ONE_POINT)
    murderer = Murderer()
    run_study(study, trials=2, workers=2, reporter=murderer)
    records = read_records(RunFolder(root=tmp_path / "runs" / "tiny"))
    assert len(records) == 2 and murderer.deaths >= MOST_DEATHS
    for record in records:
        assert record.outcome.state == "failed" and record.outcome.reason is not None
        assert record.outcome.reason.endswith("it may need more memory than there is")


def test_fewer_than_one_worker_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="workers >= 1 must hold, but got workers=0"):
        run_study(write_study(tmp_path / "study"), workers=0)
