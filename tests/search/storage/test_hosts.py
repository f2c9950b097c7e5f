"""Several run folders on one database: one total, each trial once, every file everywhere."""

from __future__ import annotations

import http.client
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from image_files import file_accuracy
from nas_compress.data.load_dataset import load_dataset
from nas_compress.errors import DamagedFileError, RequestError, RunError
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_records
from nas_compress.runs.results import read_front
from nas_compress.search.reporter import Silence
from nas_compress.search.run import run_study
from nas_compress.search.storage.attribute_names import DEATHS
from nas_compress.search.storage.hosts import GRACE_S, Hosts
from nas_compress.search.storage.recovery import repeat
from nas_compress.search.workers.dask import run_on_dask
from running import shared_cache, start, wait_until, write_study

STEADY = ("trials = 3", 'trials = 3\nobjectives = ["accuracy", "size_bytes"]')
"""Objectives that every host finds alike; latencies may be measured again."""


def figures(root: Path) -> list[tuple[int | str, float, int]]:
    return [
        (point.trial, point.figures["accuracy"], point.figures["size_bytes"])
        for point in read_front(RunFolder(root=root)).members
    ]


@pytest.mark.parametrize("form", ["onnx", pytest.param("compressed", marks=pytest.mark.slow)])
def test_a_second_host_joins_and_both_end_with_the_same_front(form: str, tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", STEADY, extra=f'\n[export]\nform = "{form}"\n')
    url, shared = f"sqlite:///{tmp_path}/study.db", tmp_path / "shared"
    first, second = tmp_path / "first", tmp_path / "second"
    run_study(study, out=first, storage=url, shared=shared, trials=2)
    run_study(study, out=second, storage=url, shared=shared, trials=4)
    assert [record.trial for record in read_records(RunFolder(root=first))] == [0, 1]
    before = read_records(RunFolder(root=first))
    run_study(study, out=first, storage=url, shared=shared, trials=4)
    after = read_records(RunFolder(root=first))[:2]
    assert [record.finished_s for record in after] == [record.finished_s for record in before], "trained again"
    runs = [read_records(RunFolder(root=root)) for root in (first, second)]
    assert [record.trial for record in runs[0]] == [record.trial for record in runs[1]] == [0, 1, 2, 3]
    for mine, theirs in zip(*runs, strict=True):
        assert mine.outcome.candidate == theirs.outcome.candidate and mine.model == theirs.model
    assert figures(first) == figures(second)
    images = load_dataset(name="digits", seed=0, train_samples=200).validation
    for root in (first, second):
        for point in read_front(RunFolder(root=root)).members:
            measured = file_accuracy(
                root / point.model, images.inputs["input"].numpy(), images.targets["label"].numpy()
            )
            assert measured == point.figures["accuracy"]


def test_the_trials_of_a_dead_run_are_queued_and_those_of_a_living_one_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("nas_compress.search.storage.hosts.time.monotonic", lambda: clock[0])
    study = optuna.create_study(storage=f"sqlite:///{tmp_path}/study.db", directions=["maximize"])
    hosts = Hosts(study=study, folder=RunFolder(root=tmp_path), run_id="abcdef0", machine="here", joined=True)
    for name in ("dead", "living", "abcdef0"):
        trial = study.ask({"width": optuna.distributions.IntDistribution(1, 9)})
        trial.set_user_attr("run", name)
    assert [hosts.is_own(trial) for trial in hosts.in_flight()] == [False, False, True]
    for beat in range(3):
        study.set_user_attr("alive living", str(beat))
        assert hosts.give_up_dead() == (0 if beat < 2 else 1)
        clock[0] += GRACE_S * 0.6
    assert [trial.state for trial in study.trials] == [
        TrialState.FAIL,
        TrialState.RUNNING,
        TrialState.RUNNING,
        TrialState.WAITING,
    ]
    assert study.trials[3].system_attrs["fixed_params"] == study.trials[0].params
    assert study.trials[3].user_attrs == {"repeats_cut_trial": 0, DEATHS: 1}


def test_a_file_of_another_host_is_taken_only_as_it_was_measured(tmp_path: Path) -> None:
    study, url, shared = write_study(tmp_path / "study", STEADY), f"sqlite:///{tmp_path}/study.db", tmp_path / "shared"
    run_study(study, out=tmp_path / "first", storage=url, shared=shared, trials=1)
    (stored,) = shared.iterdir()
    content = stored.read_bytes()
    stored.write_bytes(content[:-1])
    second = RunFolder(root=tmp_path / "second")
    with pytest.raises(DamagedFileError, match=rf"^--shared {shared} holds another file for trial 0 [^\n]+$"):
        run_study(study, out=second.root, storage=url, shared=shared, trials=1)
    assert not list(second.root.rglob("trials/*/*"))
    stored.write_bytes(content)
    run_study(study, out=second.root, storage=url, shared=shared, trials=1)
    (mine,), (theirs,) = read_records(RunFolder(root=tmp_path / "first")), read_records(second)
    assert theirs.files == mine.files and theirs.versions == mine.versions
    assert (second.root / theirs.model).read_bytes() == content


class Hasty(Silence):
    """Another run that takes this one for dead at the first sign of an epoch, and queues its trial again."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.told: list[str] = []
        self.hasty = True

    @property
    def study(self) -> optuna.Study:
        return optuna.load_study(study_name="tiny", storage=self.url)

    def stage(self, name: str, done: int, count: int) -> None:
        if done and name == "trial 0" and self.hasty:
            self.hasty, study = False, self.study
            study.tell(0, state=TrialState.FAIL)
            repeat(study, study.trials[0], study.trials[0].params, died=True)

    def say(self, text: str) -> None:
        self.told.append(text)


def test_a_living_run_that_was_taken_for_dead_leaves_its_trial_to_be_repeated(tmp_path: Path) -> None:
    study, url, root = write_study(tmp_path / "study"), f"sqlite:///{tmp_path}/study.db", tmp_path / "run"
    other = Hasty(url)
    run_study(study, out=root, storage=url, trials=1, reporter=other)
    assert any(line.startswith("another run repeats trial 0") for line in other.told)
    assert [record.trial for record in read_records(RunFolder(root=root))] == [1]
    trials = other.study.trials
    assert [trial.state.name for trial in trials] == ["FAIL", "COMPLETE"] and trials[1].params == trials[0].params
    assert not (root / "trials" / "0" / "model.onnx").exists()


def test_bad_storages_are_refused_in_one_line(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study")
    with pytest.raises(RequestError, match="--shared needs --storage"):
        run_study(study, shared=tmp_path / "shared")
    with pytest.raises(RunError, match="--storage postgresql://me:\\*\\*\\*@localhost:1/x cannot be reached"):
        run_study(study, storage="postgresql://me:secret@localhost:1/x")


@pytest.mark.slow
def test_dask_workers_share_a_study(tmp_path: Path) -> None:
    study, shared = write_study(tmp_path / "study", STEADY), tmp_path / "shared"
    words = ["run", study, "--on", "dask", "--workers", 2, "--storage", f"sqlite:///{tmp_path}/study.db"]
    words += ["--shared", shared, "--trials", 5, "--out", tmp_path / "run"]
    run = start(words, cwd=tmp_path, cache=shared_cache(), log=tmp_path / "log")
    run.join(900)
    assert run.exitcode == 0, (tmp_path / "log").read_text()
    folders = [tmp_path / "run", *(tmp_path / "run" / "hosts").iterdir()]
    assert len(folders) == 3
    for folder in folders:
        assert [record.trial for record in read_records(RunFolder(root=folder))] == [0, 1, 2, 3, 4]
        assert figures(folder) == figures(tmp_path / "run")


def doors(process: int) -> list[tuple[str, int]]:
    """Where a process and its children listen."""
    import psutil

    here = psutil.Process(process)
    found = [each for member in (here, *here.children(recursive=True)) for each in member.net_connections("tcp")]
    return [(each.laddr.ip, each.laddr.port) for each in found if each.status == psutil.CONN_LISTEN]


def shows_dashboard(address: tuple[str, int]) -> bool:
    with closing(http.client.HTTPConnection(*address, timeout=5)) as connection, suppress(http.client.HTTPException):
        connection.request("GET", "/status")
        return connection.getresponse().status != 404
    return False


@pytest.mark.slow
def test_a_local_cluster_listens_on_this_machine_only_and_has_no_dashboard(tmp_path: Path) -> None:
    study, secret = write_study(tmp_path / "study", STEADY), "5ecret"
    words = ["run", study, "--on", "dask", "--workers", 1, "--storage", f"sqlite:///{tmp_path}/{secret}.db"]
    words += ["--shared", tmp_path / "shared", "--trials", 1, "--out", tmp_path / "run"]
    run = start(words, cwd=tmp_path, cache=shared_cache(), log=tmp_path / "log")
    wait_until((tmp_path / "run" / "hosts" / "0" / "trials").is_dir, run)
    assert run.pid is not None
    found = doors(run.pid)
    assert len(found) >= 2 and {address for address, _ in found} == {"127.0.0.1"}
    assert not any(map(shows_dashboard, found))
    shown = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    run.join(300)
    assert run.exitcode == 0, (tmp_path / "log").read_text()
    assert "spawn_main" in shown and secret not in shown + (tmp_path / "log").read_text()


def test_dask_without_what_it_needs_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study, shared = str(write_study(tmp_path / "study")), tmp_path / "shared"
    with pytest.raises(RequestError, match="--on needs --storage and --shared"):
        run_on_dask(study, on="dask", storage=None, shared=shared)
    with pytest.raises(RequestError, match="workers >= 1 must hold, but got workers=0"):
        run_on_dask(study, on="dask", storage="sqlite://", shared=shared, workers=0)
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(RequestError, match=r"pip install 'nas-compress\[dask\]'"):
        run_on_dask(study, on="dask", storage="sqlite://", shared=shared)
