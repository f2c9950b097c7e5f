"""A run with two workers, of which `kill -9` hits any process at any time: nothing is lost, nothing is left behind."""

from __future__ import annotations

import os
import random
import signal
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from image_files import file_accuracy
from nas_compress.data.load_dataset import load_dataset
from nas_compress.files import read_json
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import Record, read_records
from nas_compress.search.run import run_study
from nas_compress.search.storage.optuna_storage import open_storage
from running import shared_cache, start, write_study

KILLS = int(os.environ.get("NAS_COMPRESS_TEST_KILLS", "100"))
"""How often something is killed."""

SPACE = '''"""Many tiny students."""
from nas_compress.values.candidate import Candidate


def suggest(trial):
    """Propose one student."""
    family = trial.suggest_categorical("family", ["resnet", "mobilenet"])
    width = trial.suggest_float("width_multiplier", 0.25, 1.0, step=0.05)
    bits = trial.suggest_categorical("weight_bits", [2, 3, 4, 5, 6, 8, 16, 32])
    return Candidate(family=family, depths=(1, 1, 1), width_multiplier=width, weight_bits=bits)
'''


def workers_of(run: ForkServerProcess) -> list[int]:
    """The living workers of a run."""
    try:
        children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
        return [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    except OSError:
        return []


def hit(run: ForkServerProcess, chance: random.Random) -> bool:
    """Kill the run or one of its workers; False where there was nothing to kill."""
    workers = workers_of(run)
    victim = run.pid if chance.random() < 0.25 or not workers else chance.choice(workers)
    assert victim is not None
    try:
        os.kill(victim, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def wait_for_work(run: ForkServerProcess, folder: RunFolder, chance: random.Random) -> None:
    """Some time: often until another trial begins, so that trainings are hit too, and sometimes none at all."""
    begun, end = len(list(folder.root.glob("trials/*/candidate.json"))), time.monotonic() + 60
    if chance.random() < 0.8:
        while run.is_alive() and time.monotonic() < end:
            run.join(0.05)
            if len(list(folder.root.glob("trials/*/candidate.json"))) > begun:
                break
    run.join(chance.expovariate(1.0))


def kept(records: list[Record]) -> dict[int, object]:
    """What no later run may change of finished trials; a noisy latency may be measured again."""
    return {
        record.trial: (record.params, record.outcome.candidate, record.outcome.state, record.model, record.finished_s)
        for record in records
    }


@pytest.mark.slow
def test_kills_at_any_time_lose_nothing_and_leave_nothing(tmp_path: Path) -> None:
    changes = ("\nepochs = 1\n", "\nepochs = 6\n"), ('"random"', '"ehvi"')
    study = write_study(tmp_path / "study", *changes, space=SPACE)
    folder, chance = RunFolder(root=tmp_path / "runs" / "tiny"), random.Random(0)
    run_study(study, trials=1)  # the teacher, which is not at stake
    before, total, kills, log = kept(read_records(folder)), 12, 0, tmp_path / "log"
    while kills < KILLS or len(before) < total:
        log.touch()
        arguments = ["run", study, "--workers", 2, "--trials", total]
        run = start(arguments, cwd=tmp_path, cache=shared_cache(), log=log)
        while kills < KILLS and run.is_alive():
            wait_for_work(run, folder, chance)
            kills += run.is_alive() and hit(run, chance)
        run.join(600)
        assert run.exitcode in (0, -signal.SIGKILL), log.read_text()
        assert "Traceback" not in log.read_text()
        records = kept(read_records(folder))
        assert before.items() <= records.items(), "a finished trial was lost or repeated"
        before = records
        print(f"{kills} kills, {len(records)} trials finished")
        if run.exitcode == 0:
            assert len(records) == total
            total += 6 if kills < KILLS else 0
    examine(folder, total)
    wait_for_silence(folder)


def examine(folder: RunFolder, total: int) -> None:
    """The finished run as its files tell it."""
    records = read_records(folder)
    study = optuna.load_study(study_name="tiny", storage=open_storage(None, folder.journal))
    told = {trial.number: trial for trial in study.trials}
    assert len(records) == total
    assert not any(trial.state == TrialState.RUNNING for trial in study.trials)
    for record in records:
        failed = record.outcome.state == "failed"
        assert told[record.trial].state == (TrialState.FAIL if failed else TrialState.COMPLETE)
        assert dict(record.params) == told[record.trial].params
    complete = [trial.number for trial in study.trials if trial.state == TrialState.COMPLETE]
    assert set(complete) <= {record.trial for record in records}
    trained = [record.outcome.candidate for record in records if record.repeats is None]
    assert len(set(trained)) == len([None for record in records if record.repeats is None])
    front = read_json(folder.root / "front.json")
    images = load_dataset(name="digits", seed=0, train_samples=200).validation
    assert front["members"]
    for row in front["members"]:
        model = folder.root / row["model"]
        assert file_accuracy(model, images.inputs["input"].numpy(), images.targets["label"].numpy()) == row["accuracy"]
        assert model.stat().st_size == row["size_bytes"]


def wait_for_silence(folder: RunFolder) -> None:
    """No process works there any more, and no half file lies there."""
    end = time.monotonic() + 30
    while workers_in(folder.root.parents[1]):
        assert time.monotonic() < end, "a worker outlived its run"
        time.sleep(0.2)
    names = [path.name for path in folder.root.rglob("*")]
    assert not [name for name in names if name.startswith(".") and not name.endswith(".lock")]
    assert not [name for name in names if name.endswith(".pt") or name in ("checkpoints", "study.journal.lock")]
    files = {path.parent.name for path in folder.root.glob("trials/*/model.onnx")}
    assert files <= {str(record.trial) for record in read_records(folder)}, "a cut trial left its file"


def workers_in(place: Path) -> list[str]:
    """Workers that run in a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if b"spawn_main" in (process / "cmdline").read_bytes() and (process / "cwd").readlink() == place:
                found.append(process.name)
        except OSError:
            continue
    return found
