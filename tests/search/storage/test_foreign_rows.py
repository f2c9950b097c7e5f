"""Rows of a shared database that no host of this package writes: they are named, not used, and reach no other file."""

from __future__ import annotations

import copy
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from nas_compress.config.study_file import read_study
from nas_compress.errors import DamagedFileError
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import Record, read_records
from nas_compress.search.run import run_study
from nas_compress.search.setup import StudyParts, gather
from nas_compress.search.storage.attribute_names import CANDIDATE, DEATHS, FILE, MACHINE, OUTCOME, RUN, WORKER
from nas_compress.search.storage.hosts import Hosts
from nas_compress.search.storage.optuna_storage import open_study, opened_storage, study_identity
from nas_compress.search.storage.shared_files import open_shared
from nas_compress.stopping.optuna_adapter import CURVE
from running import Command, command_in, quick_and_apart, sketch_pictures, snapshot, write_study

STEADY = ("trials = 3", 'trials = 1\nobjectives = ["accuracy", "size_bytes"]')

Change = Callable[[FrozenTrial], object]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    return command_in(monkeypatch, capfd)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study, its database, its shared files and the run of one host with one trial."""
    folder = tmp_path_factory.mktemp("first")
    with quick_and_apart() as patch:
        sketch_pictures(patch)
        study = write_study(folder / "study", STEADY)
        run_study(study, out=folder / "run", storage=f"sqlite:///{folder}/study.db", shared=folder / "shared")
    return folder


@pytest.fixture(scope="module")
def parts(first: Path) -> StudyParts:
    return gather(read_study(first / "study"))


@dataclass(frozen=True, kw_only=True)
class Second:
    """Another host on the database, in an empty run folder. said: its lines."""

    folder: Path
    hosts: Hosts
    said: list[str]

    def add(self, change: Change) -> FrozenTrial:
        """Add a copy of the first host's trial as the next one, changed by somebody."""
        study = self.hosts.study
        trial = copy.deepcopy(study.trials[0])
        number = len(study.trials)
        trial.user_attrs["model"] = f"trials/{number}/model.onnx"
        (digest,) = trial.user_attrs[OUTCOME]["files"].values()
        trial.user_attrs[OUTCOME]["files"] = {trial.user_attrs["model"]: digest}
        change(trial)
        study.add_trial(trial)
        return trial

    def records(self) -> list[Record]:
        return self.hosts.new_records({0})


@pytest.fixture
def second(first: Path, parts: StudyParts, tmp_path: Path) -> Iterator[Second]:
    folder = shutil.copytree(first, tmp_path / "copy")
    identity = study_identity(
        parts.spec, space_hash=parts.space.source_hash, data_fingerprint=parts.dataset.fingerprint
    )
    said: list[str] = []
    space = parts.space.suggest
    with opened_storage(f"sqlite:///{folder}/study.db", folder / "none") as storage:
        hosts = Hosts(
            study=open_study(storage, parts.spec, identity, space=space, say=said.append),
            folder=RunFolder(root=folder / "second"),
            run_id="0" * 32,
            machine=parts.target.fingerprint,
            joined=True,
            shared=open_shared(folder / "shared"),
            space=space,
            say=said.append,
        )
        yield Second(folder=folder, hosts=hosts, said=said)


def outcome(trial: FrozenTrial) -> dict[str, Any]:
    found: dict[str, Any] = trial.user_attrs[OUTCOME]["outcome"]
    return found


def test_a_sound_row_of_another_host_becomes_a_record_with_its_file(second: Second) -> None:
    second.add(lambda trial: None)
    (record,) = second.records()
    assert record.model == "trials/1/model.onnx" and not second.said
    assert list(record.files) == [record.model]
    mine = (second.folder / "second" / record.model).read_bytes()
    assert mine == (second.folder / "run" / "trials" / "0" / "model.onnx").read_bytes()


def sent(**values: Any) -> Change:
    return lambda trial: trial.user_attrs[OUTCOME].update(values)


def told(**values: Any) -> Change:
    return lambda trial: outcome(trial).update(values)


def measured(**values: Any) -> Change:
    return lambda trial: outcome(trial)["measured"].update(values)


def attributes(values: dict[str, Any]) -> Change:
    return lambda trial: trial.user_attrs.update(values)


HOSTILE: dict[str, Change] = {
    "a record of another type": attributes({OUTCOME: 3}),
    "an empty record": attributes({OUTCOME: {}}),
    "an outcome of another type": sent(outcome="trained"),
    "figures of another type": told(measured=[]),
    "a figure as text": measured(accuracy="0.9"),
    "a figure that is NaN": measured(accuracy=float("nan")),
    "an infinite figure": measured(size_bytes=float("inf")),
    "an impossible figure": measured(accuracy=1.5),
    "an unknown state": told(state="best"),
    "a time that is NaN": sent(finished_s=float("nan")),
    "another candidate": lambda trial: outcome(trial)["candidate"].update(width_multiplier=0.3),
    "a deep value": told(losses={"a": [[[[0.0]]]]}),
    "a huge text": told(reason="x" * 2_000_000),
    "an absolute path": attributes({"model": "/etc/passwd"}),
    "a path with ..": attributes({"model": "trials/1/../../../../outside.onnx"}),
    "a path of no text": attributes({"model": ["trials/1/model.onnx"]}),
    "a file of another trial": attributes({"model": "trials/0/model.onnx"}),
    "another file of the trial": attributes({"model": "trials/1/outcome.json"}),
    "a digest outside": sent(files={"../../outside": "0" * 64}),
    "no digest": sent(files={}),
    "a stored name with ..": attributes({FILE: "../run/run.json"}),
    "an absolute stored name": attributes({FILE: "/etc/passwd"}),
    "a stored name of no text": attributes({FILE: 5}),
    "a repetition of a later trial": attributes({"repeats": 10**9}),
    "a repetition of a negative trial": attributes({"repeats": -1}),
    "a machine of another type": attributes({MACHINE: {"a": 1}}),
    "a worker of another type": attributes({WORKER: "first"}),
    "deaths of another type": attributes({DEATHS: []}),
    "a curve of another type": attributes({CURVE: {"points": 3}}),
    "a curve that is NaN": attributes(
        {CURVE: {"known": [1.0], "planned": 1, "points": [[1, float("nan")]], "spoke_at": None}}
    ),
    "more parameters": lambda trial: (
        trial.params.update(other=0.3),
        trial.distributions.update(other=CategoricalDistribution([0.25, 0.3])),
    ),
    "fewer parameters": lambda trial: (trial.params.pop("family"), trial.distributions.pop("family")),
    "reports of another type": lambda trial: trial.system_attrs.update({"constraints:size_bytes <= 1": "x"}),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_row_is_named_in_one_line_and_not_used(kind: str, second: Second) -> None:
    trial = second.add(HOSTILE[kind])
    before = snapshot(second.folder)
    assert second.records() == []
    (line,) = second.said
    assert line.startswith("trial 1 in the storage is not a valid ") and len(line) < 400 and "\n" not in line
    assert snapshot(second.folder) == before, "nothing is written, inside or outside"
    assert trial.number is not None and second.records() == [] and len(second.said) == 1, "it is named once"


def test_a_stored_link_is_not_followed(second: Second) -> None:
    second.add(lambda trial: None)
    (stored,) = (second.folder / "shared").iterdir()
    moved = stored.rename(second.folder / "private")
    stored.symlink_to(moved)
    with pytest.raises(
        DamagedFileError, match=r"^--shared .* holds another file for trial 1 [^\n]* is a symbolic link\.[^\n]*$"
    ):
        second.records()
    assert not list((second.folder / "second").rglob("*.onnx"))


@pytest.mark.parametrize("attribute", [{CANDIDATE: 3}, {CANDIDATE: {"family": 9}}, {RUN: 7}, {DEATHS: "x"}])
def test_an_open_trial_with_hostile_attributes_is_read_without_them(attribute: dict[str, Any], second: Second) -> None:
    study = second.hosts.study
    study.add_trial(optuna.create_trial(state=TrialState.RUNNING, user_attrs={"run": "other", **attribute}))
    (trial,) = second.hosts.in_flight()
    assert not set(attribute) & set(trial.user_attrs)
    assert not second.hosts.is_own(trial)


@pytest.mark.parametrize("params", [{"family": "resnet", "width_multiplier": 99}, {"other": 1}, 3, ["family"]])
def test_queued_parameters_outside_the_space_are_dropped(params: Any, second: Second) -> None:
    study = second.hosts.study
    study.add_trial(optuna.create_trial(state=TrialState.WAITING, system_attrs={"fixed_params": params}))
    trial = study.ask()
    assert trial.number == 1 and "fixed_params" not in study.trials[1].system_attrs
    assert trial.suggest_categorical("family", ["resnet", "mobilenet"]) in ("resnet", "mobilenet")


@pytest.mark.parametrize(
    "change",
    [
        "update trial_user_attributes set value_json = 'no json'",
        "update trial_params set distribution_json = '{}'",
        "update trials set state = 'BEST'",
        "update trial_params set param_value = 99",
        "update trial_user_attributes set value_json = '" + "[" * 100_000 + "'",
        "update studies set study_name = 'other'",
    ],
)
def test_rows_that_optuna_cannot_read_end_the_run_in_one_line(
    change: str, first: Path, tmp_path: Path, command: Command
) -> None:
    folder = shutil.copytree(first, tmp_path / "copy")
    with closing(sqlite3.connect(folder / "study.db")) as database, database:
        database.execute(change)
    options = ("--storage", f"sqlite:///{folder}/study.db", "--shared", folder / "shared", "--out", folder / "run")
    answer = command("run", folder / "study", "--trials", 1, *options)
    assert answer.code in (1, 2) and "storage" in answer.line, answer.err
    assert len(read_records(RunFolder(root=folder / "run"))) == 1


def test_a_run_goes_on_beside_hostile_rows(second: Second, command: Command) -> None:
    for change in HOSTILE.values():
        second.add(change)
    second.hosts.study.add_trial(
        optuna.create_trial(state=TrialState.WAITING, system_attrs={"fixed_params": {"family": "other"}})
    )
    second.hosts.study.set_user_attr("known_costs:0", "[1, 2]")
    outside = snapshot(second.folder / "run", second.folder / "shared", second.folder / "study")
    options = ("--storage", f"sqlite:///{second.folder}/study.db", "--out", second.folder / "third")
    answer = command("run", second.folder / "study", "--trials", 2, *options)
    assert answer.code == 0 and "Traceback" not in answer.err, answer.err
    for number in range(1, len(HOSTILE)):
        assert f"trial {number} in the storage is not a valid " in answer.err
    records = read_records(RunFolder(root=second.folder / "third"))
    assert [record.trial for record in records][:1] == [0] and len(records) == 2
    assert snapshot(second.folder / "run", second.folder / "shared", second.folder / "study") == outside
