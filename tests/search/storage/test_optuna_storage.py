"""The storage is a normal Optuna study, and a run continues only with its first storage and study file."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from nas_compress.errors import RequestError, RunError
from nas_compress.files import read_json
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_records
from nas_compress.search.run import run_study
from nas_compress.search.storage.optuna_storage import differing_keys
from running import SPACE, quick_and_apart, snapshot, write_study

BUDGETS = """
[budgets.size_bytes]
at_most = 60000
[budgets.accuracy]
at_least = 0.01
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study under two budgets and its finished run; only to be read or copied."""
    folder = tmp_path_factory.mktemp("finished")
    with quick_and_apart():
        study = write_study(folder / "study", ("trials = 3", "trials = 5"), extra=BUDGETS)
        run_study(study, out=folder / "run")
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of the run that may be changed."""
    shutil.copytree(finished, tmp_path / "copy")
    return tmp_path / "copy"


def as_a_user_would(root: Path) -> optuna.Study:
    return optuna.load_study(study_name="tiny", storage=JournalStorage(JournalFileBackend(str(root / "study.journal"))))


def test_optuna_alone_reads_the_study(finished: Path) -> None:
    study = as_a_user_would(finished / "run")
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE", "MINIMIZE"]
    assert study.metric_names == ["accuracy", "latency_ms", "size_bytes"]
    records = {record.trial: record for record in read_records(RunFolder(root=finished / "run"))}
    assert len(study.trials) == len(records) == 5
    for trial in study.trials:
        record = records[trial.number]
        assert trial.params == dict(record.params)
        assert trial.user_attrs["candidate"] == record.outcome.candidate.to_dict()
        assert trial.user_attrs["state"] == record.outcome.state
        assert trial.user_attrs["measured"]["size_bytes"] == trial.values[2]


def test_budgets_are_constraints_with_the_same_keys_in_every_trial(finished: Path) -> None:
    study = as_a_user_would(finished / "run")
    assert {tuple(trial.constraints) for trial in study.trials} == {("size_bytes <= 60000", "accuracy >= 0.01")}
    beyond = [trial for trial in study.trials if trial.constraints["size_bytes <= 60000"] > 0]
    assert beyond, "the seed must draw a candidate over budget"
    for trial in beyond:
        assert trial.state is TrialState.COMPLETE
        assert trial.user_attrs["state"] == "over_budget"
        assert trial.user_attrs["epochs"] == 0
        assert trial.values[0] == pytest.approx(1 / 10), "told at chance level"
        assert trial.values[2] > 60_000
    assert {trial.number for trial in study.best_trials}.isdisjoint(trial.number for trial in beyond)


def test_a_smaller_total_than_finished_does_nothing(finished: Path) -> None:
    trials = snapshot(finished / "run" / "trials")
    front = run_study(finished / "study", out=finished / "run", trials=2)
    assert len(front.points) >= 1
    assert snapshot(finished / "run" / "trials") == trials
    assert len(as_a_user_would(finished / "run").trials) == 5


def test_the_total_and_the_device_may_change(run: Path) -> None:
    write_study(run / "study", ("trials = 3", 'trials = 6\ndevice = "cpu"'), extra=BUDGETS)
    run_study(run / "study", out=run / "run")
    assert len(read_records(RunFolder(root=run / "run"))) == 6
    assert read_json(run / "run" / "run.json")["study"]["trials"] == 6


def test_a_changed_study_file_is_refused_with_its_keys(run: Path) -> None:
    before = snapshot(run / "run")
    write_study(run / "study", ("train_samples = 200", "train_samples = 210"), ("[search]", "cap = 2.0\n[search]"))
    with pytest.raises(RequestError) as refused:
        run_study(run / "study", out=run / "run")
    message = str(refused.value)
    assert "data.train_samples (was 200, is 210)" in message
    assert "training.cap (was 3.0, is 2.0)" in message
    assert "budgets" in message
    assert "training.epochs" not in message
    after = snapshot(run / "run")
    assert {name for name in after if after[name] != before.get(name)} <= {str(run / "run" / ".lock")}


def test_a_changed_space_is_refused(run: Path) -> None:
    write_study(run / "study", extra=BUDGETS, space=SPACE.replace("0.25, ", ""))
    with pytest.raises(RequestError, match=r"space \(its text\)"):
        run_study(run / "study", out=run / "run")


def test_another_storage_than_at_the_start_is_refused(run: Path) -> None:
    with pytest.raises(RequestError, match="the journal in the run folder"):
        run_study(run / "study", out=run / "run", storage=f"sqlite:///{run}/other.db")
    assert not (run / "other.db").exists()


def test_a_damaged_record_is_named(run: Path) -> None:
    (run / "run" / "trials" / "1" / "outcome.json").write_text("{}")
    with pytest.raises(RunError, match=r"trials/1/outcome.json is damaged"):
        run_study(run / "study", out=run / "run")


@pytest.mark.slow
def test_a_database_works_too_and_goes_on(tmp_path: Path) -> None:
    study, url = write_study(tmp_path / "study"), f"sqlite:///{tmp_path}/study.db"
    run_study(study, trials=1, storage=url)
    run_study(study, trials=2, storage=url)
    root = tmp_path / "runs" / "tiny"
    loaded = optuna.load_study(study_name="tiny", storage=RDBStorage(url))
    assert [trial.state for trial in loaded.trials] == [TrialState.COMPLETE] * 2
    assert len(read_records(RunFolder(root=root))) == 2
    assert not (root / "study.journal").exists()
    with pytest.raises(RequestError, match="--storage sqlite"):
        run_study(study, trials=3)


def test_a_study_of_somebody_else_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    optuna.create_study(study_name="tiny", storage=url, direction="minimize")
    with pytest.raises(RequestError, match="of another program"):
        run_study(write_study(tmp_path / "study"), storage=url)
    assert not (tmp_path / "runs" / "tiny").exists()


def test_a_database_that_is_not_there_ends_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"^--storage .* cannot be reached") as refused:
        run_study(write_study(tmp_path / "study"), storage="sqlite:////nowhere/at/all.db")
    assert "\n" not in str(refused.value)


def test_tables_of_another_version_of_optuna_are_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    RDBStorage(url).engine.dispose()
    with closing(sqlite3.connect(tmp_path / "study.db")) as database:
        database.execute("UPDATE alembic_version SET version_num = 'v2.6.0.a'")
        database.commit()
    rule = r"--storage must have tables of this version of Optuna, but .* storage upgrade"
    with pytest.raises(RequestError, match=rule):
        run_study(write_study(tmp_path / "study"), storage=url)


def test_differing_keys_are_dotted_and_sorted() -> None:
    known = {"a": 1, "b": {"x": 1, "y": [2]}, "gone": True}
    wanted = {"a": 1, "b": {"x": 3, "y": [2]}, "new": 0}
    assert differing_keys(known, wanted) == [
        "b.x (was 1, is 3)",
        "gone (was True, is None)",
        "new (was None, is 0)",
    ]
