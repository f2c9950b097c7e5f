"""Real processes, really killed: what is finished is never repeated, what was cut is."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from nas_compress.config.study_file import read_study
from nas_compress.files import read_json
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_candidate, read_record, read_records, write_record
from nas_compress.search.run import run_study
from nas_compress.search.storage.attribute_names import DEATHS
from nas_compress.search.storage.earlier_runs import TAKEN_OVER
from nas_compress.search.storage.optuna_storage import open_storage
from nas_compress.search.storage.recovery import MOST_DEATHS, settle_cut_trials
from nas_compress.tasks.classification import Classification
from running import Told, shared_cache, snapshot, start, wait_until, write_study

SLOW = (("trials = 3", "trials = 2"), ("\nepochs = 1\n", "\nepochs = 8\n"))
"""Trials that last long enough to be hit in the middle."""


def load(root: Path) -> optuna.Study:
    return optuna.load_study(study_name="tiny", storage=open_storage(None, root / "study.journal"))


def finished(root: Path) -> dict[int, tuple[float, object, object]]:
    """When each trial finished, what the sampler got, and its files; a later measurement changes none of them."""
    records = read_records(RunFolder(root=root))
    return {record.trial: (record.finished_s, record.told, record.files) for record in records}


def interrupt_second_trial(tmp_path: Path, number: int) -> tuple[Path, int, str]:
    """Run the study and send a signal in the training of its second trial; the exit code and the log."""
    study, root, log = write_study(tmp_path / "study", *SLOW), tmp_path / "runs" / "tiny", tmp_path / "log"
    process = start(["run", study], cwd=tmp_path, cache=shared_cache(), log=log)
    wait_until((root / "trials" / "0" / "outcome.json").is_file, process)
    wait_until((root / "trials" / "1" / "candidate.json").is_file, process)
    assert process.pid is not None
    os.kill(process.pid, number)
    process.join(30)
    assert not (root / "trials" / "1" / "outcome.json").exists()
    assert process.exitcode is not None
    return root, process.exitcode, log.read_text()


def finish(tmp_path: Path, root: Path) -> None:
    """The same study again: the right total, nothing finished is repeated, only the cut trial is."""
    before, teacher = finished(root), snapshot(shared_cache() / "teachers")
    run_study(tmp_path / "study")
    after = finished(root)
    assert {trial: after[trial] for trial in before} == before
    assert (
        snapshot(shared_cache() / "teachers").items()
        >= {name: facts for name, facts in teacher.items() if name.endswith("safetensors")}.items()
    )
    assert [record.trial for record in read_records(RunFolder(root=root))] == [0, 2]
    cut, again = read_candidate(RunFolder(root=root), 1), read_record(RunFolder(root=root), 2)
    assert again is not None and again.outcome.candidate == cut
    trials = load(root).trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE, TrialState.FAIL, TrialState.COMPLETE]
    assert trials[2].params == trials[1].params
    assert trials[2].user_attrs["repeats_cut_trial"] == 1


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    root, code, _ = interrupt_second_trial(tmp_path, signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert [trial.state for trial in load(root).trials] == [TrialState.COMPLETE, TrialState.RUNNING]
    finish(tmp_path, root)


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_stopped_run_leaves_one_line_and_nothing_running(number: int, tmp_path: Path) -> None:
    root, code, log = interrupt_second_trial(tmp_path, number)
    assert code == 1
    assert "Traceback" not in log
    assert log.splitlines()[-1] == "nas-compress: Stopped. Run the same command to continue."
    states = [trial.state for trial in load(root).trials]
    assert states == [TrialState.COMPLETE, TrialState.FAIL, TrialState.WAITING]
    finish(tmp_path, root)


def test_a_second_process_on_one_run_is_refused(tmp_path: Path) -> None:
    study, root = write_study(tmp_path / "study", ("trials = 3", "trials = 100")), tmp_path / "runs" / "tiny"
    first = start(["run", study], cwd=tmp_path, cache=shared_cache(), log=tmp_path / "first")
    wait_until((root / "trials" / "0" / "candidate.json").is_file, first)
    second = start(["run", study], cwd=tmp_path, cache=shared_cache(), log=tmp_path / "second")
    second.join(60)
    assert first.is_alive()
    first.kill()
    first.join(10)
    assert second.exitcode == 1
    line = (tmp_path / "second").read_text().splitlines()[-1]
    assert line.startswith("nas-compress: Another process runs the study in")


def test_a_trial_recorded_but_not_told_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas_compress.search.run.measure_members_again", lambda progress: None)
    study, root = write_study(tmp_path / "study", ("trials = 3", "trials = 2")), tmp_path / "runs" / "tiny"
    run_study(study)
    # the same run as it is after a kill between the last record and its `tell`
    journal = root / "study.journal"
    lines = journal.read_text().splitlines(keepends=True)
    assert '"state": 1' in lines[-1] or '"values"' in lines[-1]
    journal.write_text("".join(lines[:-1]))
    assert [trial.state for trial in load(root).trials] == [TrialState.COMPLETE, TrialState.RUNNING]
    before = finished(root)
    front = run_study(study)
    assert finished(root) == before
    trials = load(root).trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE, TrialState.COMPLETE]
    told = {
        point.trial: [point.figures["accuracy"], point.figures["latency_ms"], float(point.figures["size_bytes"])]
        for point in front.points
    }
    assert trials[1].values == told[1]


def test_a_trial_interrupted_between_its_record_and_the_storage_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*given: object, task: object) -> None:
        raise KeyboardInterrupt

    study, root = write_study(tmp_path / "study", ("trials = 3", "trials = 1")), tmp_path / "runs" / "tiny"
    monkeypatch.setattr("nas_compress.search.ask_and_tell.tell", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_study(study)
    (record,) = read_records(RunFolder(root=root))
    assert (root / record.model).is_file(), "a finished trial was given up"
    assert [trial.state for trial in load(root).trials] == [TrialState.COMPLETE]


def test_a_trial_without_a_name_is_this_runs_only_where_it_is_alone(tmp_path: Path) -> None:
    study_file = read_study(write_study(tmp_path / "study"))
    study, folder = optuna.create_study(directions=study_file.spec.directions), RunFolder(root=tmp_path)
    for run in (None, "other", "mine"):
        trial = study.ask()
        if run is not None:
            trial.set_user_attr("run", run)
    states, task = [], Classification.of_images(shape=(1, 8, 8), classes=10)
    for alone in (False, True):
        settle_cut_trials(study, folder, study_file.spec, run="mine", alone=alone, task=task, died=True)
        states.append([trial.state.name for trial in study.trials])
    assert states == [["RUNNING", "RUNNING", "FAIL"], ["FAIL", "RUNNING", "FAIL"]]


def test_a_run_that_goes_on_elsewhere_measures_its_front_again(tmp_path: Path) -> None:
    study, root = write_study(tmp_path / "study", ("trials = 3", "trials = 2")), tmp_path / "runs" / "tiny"
    run_study(study)
    folder = RunFolder(root=root)
    about = folder.about()
    folder.start({**about, "machine": {**about["machine"], "key": "0123456789abcdef", "cpu": "Abacus"}})
    for record in read_records(folder):
        assert record.outcome.measured is not None
        far = record.outcome.measured.with_figures({"latency_ms": 1000.0 + record.trial})
        far = replace(far, latency_noisy=False)
        write_record(folder, replace(record, outcome=replace(record.outcome, measured=far)))
    told = Told()
    front = run_study(study, reporter=told)
    assert any("started on another machine (Abacus)" in line for line in told.lines)
    assert folder.about()["machine"] == about["machine"]
    assert folder.about()[TAKEN_OVER] and TAKEN_OVER not in about, "its look-ups are of another machine"
    # the first two blocks of a noisy moment may leave a member noisy, but never as it was without a word
    members = {point.trial for point in front.members}
    found = [record.outcome.measured for record in read_records(folder) if record.trial in members]
    assert found and all(
        each is not None and (each.figures["latency_ms"] < 1000 or each.latency_noisy) for each in found
    )


def test_a_trial_cut_before_its_candidate_was_whole_is_proposed_again(tmp_path: Path) -> None:
    study, root = write_study(tmp_path / "study", ("trials = 3", "trials = 1")), tmp_path / "runs" / "tiny"
    run_study(study)
    cut = load(root)
    cut.sampler = optuna.samplers.RandomSampler(seed=99)
    trial = cut.ask()
    trial.set_user_attr("run", read_json(root / "run.json")["run"])
    trial.suggest_categorical("family", ["resnet", "mobilenet"])
    run_study(study, trials=2)
    run_study(write_study(tmp_path / "whole", ("trials = 3", "trials = 2")), out=tmp_path / "whole-run")
    proposed = [record.params for record in read_records(RunFolder(root=root))]
    assert proposed == [record.params for record in read_records(RunFolder(root=tmp_path / "whole-run"))]


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_candidate_on_which_runs_died_again_and_again_is_a_failed_trial(workers: int, tmp_path: Path) -> None:
    study, root = write_study(tmp_path / "study", ("trials = 3", "trials = 1")), tmp_path / "runs" / "tiny"
    run_study(study)
    cut, run = load(root), read_json(root / "run.json")["run"]
    cut.enqueue_trial({"family": "resnet", "width_multiplier": 0.5}, user_attrs={DEATHS: MOST_DEATHS - 1})
    cut.ask().set_user_attr("run", run)  # and here its process dies
    run_study(study, trials=1 + workers, workers=workers)
    records = read_records(RunFolder(root=root))
    (failed,) = [record for record in records if record.outcome.state == "failed"]
    assert len(records) == 1 + workers and failed.trial == 2 and failed.outcome.candidate.shape.width_multiplier == 0.5
    assert failed.outcome.reason is not None
    assert failed.outcome.reason.startswith(f"{MOST_DEATHS} processes died while they tried this candidate")
    assert load(root).trials[2].state == TrialState.FAIL


def test_what_a_dead_process_left_in_the_journal_is_cleared(tmp_path: Path) -> None:
    study, root = write_study(tmp_path / "study", ("trials = 3", "trials = 1")), tmp_path / "runs" / "tiny"
    run_study(study)
    with (root / "study.journal").open("a") as journal:
        journal.write('{"op_code": 4, "work')
    before = finished(root)
    run_study(study, trials=2)
    assert len(load(root).trials) == 2
    assert before.items() <= finished(root).items()
