"""Studies whose trials are stopped: what is told, counted, kept out of the front, and decided after a kill."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import optuna
import pytest
from optuna.exceptions import StorageInternalError

from nas_compress.config.study_file import read_study
from nas_compress.errors import RequestError
from nas_compress.files import read_json
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.front import Front
from nas_compress.runs.records import Record, read_records
from nas_compress.search.run import run_study
from nas_compress.search.storage.optuna_storage import open_storage
from nas_compress.search.trial_stopper import RuleStopper, study_rule
from nas_compress.stopping.behind import Behind
from nas_compress.stopping.optuna_adapter import CURVE, curve_of
from nas_compress.stopping.rules import NoRule
from nas_compress.values.metrics.table import Objective
from nas_compress.values.outcome import Measured
from running import Command, command_in, shared_cache, start, wait_until, write_study

COST = Measured(
    figures={"latency_ms": 1.0, "size_bytes": 1, "parameters": 1, "macs": 1}, latency_spread=0.0, latency_noisy=False
)
LONGER = (("\nepochs = 1\n", "\nepochs = 3\n"), ("trials = 3", "trials = 8"))


def write(folder: Path, search: str, *changes: tuple[str, str]) -> Path:
    return write_study(folder, ('sampler = "random"', f'sampler = "random"\n{search}'), *LONGER, *changes)


def finished(root: Path) -> tuple[list[Record], list[optuna.trial.FrozenTrial]]:
    study = optuna.load_study(study_name="tiny", storage=open_storage(None, root / "study.journal"))
    return read_records(RunFolder(root=root)), study.trials


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    return command_in(monkeypatch, capfd)


def test_a_storage_that_is_away_at_a_rung_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*given: object) -> None:
        raise StorageInternalError("the server restarts")

    study = optuna.create_study(directions=["maximize", "minimize"])
    objectives = (Objective(name="accuracy"), Objective(name="size_bytes"))
    stoppers = [
        RuleStopper(trial=study.ask(), rule=Behind(rungs=(1 / 9, 1 / 3)), objectives=objectives) for _ in range(2)
    ]
    for stopper in stoppers:
        stopper.begin(COST, 9)
    for epoch in (1, 3):
        assert stoppers[0].stop_reason(epoch, 0.9) is None
    with monkeypatch.context() as patch:
        patch.setattr(stoppers[1].trial, "set_user_attr", away)
        assert stoppers[1].stop_reason(1, 0.1) is None
    assert stoppers[1].stop_reason(3, 0.1) is not None, "it is there again"
    assert [step for step, _ in curve_of(study.trials[1].user_attrs[CURVE]).points] == [1, 3]


def test_stopped_trials_are_told_counted_and_kept_off_the_front(tmp_path: Path, command: Command) -> None:
    """The second and the third one are the same candidate: stopped, then proposed again and trained."""
    heavy = '{ family = "mobilenet", width_multiplier = 1.0 }'
    first = f'enqueue = [{{ family = "resnet", width_multiplier = 0.25 }}, {heavy}, {heavy}]'
    front = run_study(write(tmp_path / "study", f'stop = "moasha"\nrungs = [1, 2]\n{first}'))
    root = tmp_path / "runs" / "tiny"
    records, trials = finished(root)
    assert [record.outcome.state for record in records[:3]] == ["trained", "stopped", "trained"]
    assert records[1].outcome.candidate == records[2].outcome.candidate and records[2].repeats is None
    assert curve_of(trials[2].user_attrs[CURVE]).finished, "later trials see it whole"
    own = [record for record in records if record.repeats is None]
    stopped = {record.trial for record in own if record.outcome.state == "stopped"}
    assert stopped and len(stopped) < len(own)
    members = {point.trial for point in front.members}
    assert members and not members & stopped
    for record, trial in zip(records, trials, strict=True):
        outcome = record.outcome
        assert trial.state.name == "COMPLETE" and trial.values is not None
        if outcome.state == "stopped":
            assert outcome.measured is not None
            figures = [
                outcome.curve[-1][1],
                outcome.measured.figures["latency_ms"],
                outcome.measured.figures["size_bytes"],
            ]
            assert trial.values == figures and outcome.epochs == outcome.curve[-1][0] < 3
            assert not (root / "trials" / str(record.trial) / "model.onnx").exists()
        if record.repeats is None:
            assert {point[0] for point in trial.user_attrs[CURVE]["points"]} <= {step for step, _ in outcome.curve}
    saved = read_json(root / "front.json")["stopping"]
    assert saved["stopped"] == len(stopped)
    assert saved["epochs_trained"] + saved["epochs_saved"] == 3 * len(own)
    assert saved["epochs_saved"] == sum(3 - record.outcome.epochs for record in own)
    told = command("status", "tiny")
    assert f"{saved['epochs_saved']} saved by stopping {len(stopped)} trials" in told.out
    assert json.loads(command("status", "tiny", "--json").out)["stopping"] == saved


@pytest.mark.slow
def test_the_shadow_trains_all_and_names_the_members_it_would_have_cost(tmp_path: Path) -> None:
    front = run_study(write(tmp_path / "shadow", 'stop = "shadow"\nrungs = [1, 2]'), out=tmp_path / "a")
    plain = run_study(write(tmp_path / "plain", ""), out=tmp_path / "b")
    assert _figures(front) == _figures(plain), "watching changes nothing"
    records, _ = finished(tmp_path / "a")
    spoken = {r.trial for r in records if r.repeats is None and r.outcome.stopped_at is not None}
    saved = read_json(tmp_path / "a" / "front.json")["stopping"]
    assert spoken and saved["would_stop"] == len(spoken)
    assert set(saved["members_lost"]) == spoken & {point.trial for point in front.members}
    assert saved["epochs_would_save"] == sum(3 - (records[trial].outcome.stopped_at or 0) for trial in spoken)
    assert saved["stopped"] == saved["epochs_saved"] == 0


def _figures(front: Front) -> list[tuple[float, int]]:
    return sorted((point.figures["accuracy"], point.figures["size_bytes"]) for point in front.points)


@pytest.mark.parametrize(
    ("search", "change", "words"),
    [
        (
            'stop = "moasha"',
            ("trials = 8", 'trials = 2\nobjectives = ["size_bytes", "macs"]'),
            "exactly one objective that training determines",
        ),
        ('stop = "moasha"\neta = 10', ("trials = 8", "trials = 2"), "'moasha' has none with training.epochs="),
        ('stop = "shadow"', ("epochs = 3\nbatch", "epochs = 2\nbatch"), "'moasha' has none with training.epochs=2"),
    ],
)
def test_a_rule_that_could_stop_nothing_is_refused(
    search: str, change: tuple[str, str], words: str, tmp_path: Path
) -> None:
    with pytest.raises(RequestError) as refused:
        run_study(write(tmp_path / "study", search, change))
    assert words in str(refused.value) and "search.stop" in str(refused.value)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (("trials = 3", "trials = 3"), Behind),
        (("trials = 3", 'trials = 3\nobjectives = ["accuracy"]'), NoRule),
        (("trials = 3", 'trials = 3\nobjectives = ["latency_ms", "size_bytes"]'), NoRule),
        (("epochs = 9", "epochs = 2"), NoRule),
        (('sampler = "random"', 'sampler = "ehvi"'), NoRule),
        (("[search]", '[search.reward]\nkind = "soft"\nfigure = "latency_ms"\ntarget = 0.1\n[search]'), NoRule),
    ],
    ids=["several objectives", "one objective", "nothing learned", "no rung", "ehvi", "a reward"],
)
def test_the_default_stops_what_is_left_behind(change: tuple[str, str], rule: type, tmp_path: Path) -> None:
    longer = ("\nepochs = 1\n", "\nepochs = 9\n")
    study = write_study(tmp_path, ('sampler = "random"', 'sampler = "random"\nstop = "auto"'), longer, change)
    assert isinstance(study_rule(read_study(study).spec), rule)
    study.write_text(study.read_text().replace('stop = "auto"\n', ""))
    assert isinstance(study_rule(read_study(study).spec), rule), "auto is the default"


@pytest.mark.slow
def test_after_a_kill_the_rule_decides_as_if_nothing_had_happened(tmp_path: Path) -> None:
    """Kept in the storage alone: the verdicts over what a dead process left are those over what it knew."""
    study = write(tmp_path / "study", 'stop = "moasha"\nrungs = [1, 2]')
    root, log = tmp_path / "killed", tmp_path / "log"
    process = start(["run", study, "--out", root], cwd=tmp_path, cache=shared_cache(), log=log)
    wait_until((root / "trials" / "2" / "candidate.json").is_file, process)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join(30)
    before = [curve_of(trial.user_attrs[CURVE]) for trial in finished(root)[1][:2] if CURVE in trial.user_attrs]
    run_study(study, out=root, trials=3)
    records, trials = finished(root)
    assert trials[2].state.name == "FAIL" and [record.trial for record in records] == [0, 1, 3]
    again = curve_of(trials[3].user_attrs[CURVE])
    rule = study_rule(read_study(study).spec)
    verdicts = [rule.verdict(again.until(step), before) is not None for step, _ in again.points]
    assert (records[-1].outcome.state == "stopped") == verdicts[-1]
    assert not any(verdicts[:-1])


@pytest.mark.parametrize(
    ("search", "words"),
    [
        (
            'stop = "moash"',
            "search.stop: input should be 'auto', 'none', 'moasha', 'behind', 'dominated', 'shadow', 'median'",
        ),
        ('stop = "moasha"\nrungs = []', "search: rungs must be one or more rising epochs, but got rungs=[]"),
        ('stop = "moasha"\nrungs = [2, 1]', "rungs must be one or more rising epochs, but got rungs=[2, 1]"),
        ('stop = "moasha"\nrungs = [3]', "rungs must lie below training.epochs, but got search.rungs=[3]"),
        ('stop = "dominated"\nrungs = [1]', "rungs belong to the rules moasha and behind"),
        ('stop = "none"\nrungs = [1]', "rungs belong to the rules moasha and behind, but got rungs with the rule none"),
        ('stop = "moasha"\neta = 1', "search.eta: input should be greater than or equal to 2, but got search.eta=1"),
        ('stop = "dominated"\nrisk = 0.9', "search.risk: input should be less than or equal to 0.5"),
    ],
)
def test_bad_settings_are_one_line(search: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError) as refused:
        read_study(write(tmp_path / "study", search))
    assert words in str(refused.value) and "\n" not in str(refused.value)
