"""What the search does with candidates met again, with failures, and with each sampler."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest

from nas_compress.errors import RequestError
from nas_compress.files import read_json
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import Record, read_records
from nas_compress.search.run import run_study
from nas_compress.search.samplers.cost_cache import KnownCosts
from nas_compress.search.samplers.ehvi_sampler import START
from nas_compress.search.samplers.proposals import key_of
from nas_compress.search.samplers.table import SAMPLERS, SamplerContext, make_sampler, require_sampler
from nas_compress.search.storage.optuna_storage import open_storage
from running import snapshot, write_study

TWO_POINTS = '''"""Two points."""
from nas_compress.values.candidate import Candidate


def suggest(trial):
    family = trial.suggest_categorical("family", ["resnet", "mobilenet"])
    return Candidate(family=family, depths=(1, 1, 1), width_multiplier=0.5)
'''

HALF_EXPLODES = '''"""One of two choices has no finite loss."""
from nas_compress.values.candidate import Candidate, LossTerm


def suggest(trial):
    weight = trial.suggest_categorical("weight", [1.0, 1e39])
    return Candidate(family="resnet", depths=(1, 1, 1), losses=(LossTerm(name="cross_entropy", weight=weight),))
'''


RARELY_TOO_SHORT = '''"""One number of a million breaks a rule."""
from nas_compress.values.candidate import Candidate


def suggest(trial):
    number = trial.suggest_int("number", 0, 10**6)
    return Candidate(family="resnet", depths=(1, 1) if number == 7 else (1, 1, 1), width_multiplier=0.25)
'''


def records_of(root: Path) -> list[Record]:
    return read_records(RunFolder(root=root))


def test_a_candidate_met_again_is_answered_from_its_record(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", ("trials = 3", "trials = 6"), space=TWO_POINTS)
    front = run_study(study)
    root = tmp_path / "runs" / "tiny"
    records = records_of(root)
    first = {record.outcome.candidate: record for record in reversed(records)}
    assert len(records) == 6
    assert len(first) == 2
    for record in records:
        original = first[record.outcome.candidate]
        assert record.repeats == (None if record is original else original.trial)
        assert record.model == original.model
        assert record.outcome == original.outcome
        assert (root / "trials" / str(record.trial) / "model.onnx").exists() == (record is original)
    members = [point.trial for point in front.members]
    assert len(members) == len(set(members)) <= 2
    assert {point.trial for point in front.points} == {record.trial for record in first.values()}
    told = optuna.load_study(study_name="tiny", storage=open_storage(None, root / "study.journal")).trials
    assert [trial.user_attrs["repeats"] for trial in told] == [record.repeats for record in records]
    assert len({tuple(trial.values) for trial in told}) == 2


def test_a_failed_trial_keeps_its_reason_and_the_study_goes_on(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", ("trials = 3", "trials = 6"), space=HALF_EXPLODES)
    front = run_study(study)
    records = records_of(tmp_path / "runs" / "tiny")
    failed = [record for record in records if record.outcome.state == "failed"]
    trained = [record for record in records if record.outcome.state == "trained"]
    assert len(failed) + len(trained) == 6
    assert failed
    assert trained
    for record in failed:
        assert record.params["weight"] == 1e39
        assert record.outcome.reason is not None
        assert record.outcome.reason.startswith("NonFiniteLossError: every loss term must be finite, but at step 0")
    assert {point.trial for point in front.members} <= {record.trial for record in trained}
    storage = open_storage(None, tmp_path / "runs" / "tiny" / "study.journal")
    told = optuna.load_study(study_name="tiny", storage=storage).trials
    assert {trial.number for trial in told if trial.state.name == "FAIL"} == {record.trial for record in failed}


def test_a_refused_candidate_is_a_failed_trial_and_the_study_goes_on(tmp_path: Path) -> None:
    change = ('sampler = "random"', 'sampler = "random"\nenqueue = [{ number = 7 }]')
    run_study(write_study(tmp_path / "study", change, space=RARELY_TOO_SHORT), trials=2)
    refused, tried = (record.outcome for record in records_of(tmp_path / "runs" / "tiny"))
    assert (refused.state, tried.state) == ("failed", "trained")
    assert refused.reason == "depths must have one entry per stage of resnet (3), but got depths=(1, 1)"
    assert refused.candidate.shape.depths == (1, 1) and refused.measured is None


@pytest.mark.parametrize(
    "sampler",
    [
        name if name == "ehvi" else pytest.param(name, marks=pytest.mark.slow)
        for name in SAMPLERS
        if name != "optuna_tpe"
    ],
)
def test_a_stopped_search_proposes_what_an_uninterrupted_one_proposes(
    sampler: str, tmp_path: Path, untrained: None
) -> None:
    study = write_study(
        tmp_path / "study",
        ('sampler = "random"', f'sampler = "{sampler}"\nstartup_trials = 4'),
        ("trials = 3", 'trials = 6\nobjectives = ["size_bytes", "macs"]'),
    )
    run_study(study, out=tmp_path / "whole")
    for total in (3, 6):
        run_study(study, out=tmp_path / "stopped", trials=total)
    whole, stopped = ([dict(r.params) for r in records_of(tmp_path / name)] for name in ("whole", "stopped"))
    assert whole == stopped
    assert len({str(params) for params in whole}) > 2, "a sampler proposes different candidates"
    if sampler == "ehvi":
        assert_looks_tell_what_trials_find(tmp_path / "whole")


def assert_looks_tell_what_trials_find(root: Path) -> None:
    """What was looked up of a candidate before it was proposed is what its trial measured."""
    study = optuna.load_study(study_name="tiny", storage=open_storage(None, root / "study.journal"))
    known, tried = KnownCosts(study, None).found, records_of(root)[START:]
    assert len(known) >= 4
    for record in tried:
        values, measured = known[key_of(record.params)][1].values, record.outcome.measured
        assert measured is not None and values == (measured.figures["size_bytes"], measured.figures["macs"])


@pytest.mark.parametrize(
    "sampler", [pytest.param(name, marks=pytest.mark.slow) if name == "gp" else name for name in SAMPLERS]
)
def test_a_sampler_follows_its_seed(sampler: str) -> None:
    def proposals(seed: int) -> list[int]:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        context = SamplerContext(seed=seed, study_seed=seed, startup_trials=3)
        study = optuna.create_study(sampler=make_sampler(sampler, context))
        study.optimize(lambda trial: trial.suggest_int("x", 0, 10**6), n_trials=5)
        return [trial.params["x"] for trial in study.trials]

    assert proposals(1) == proposals(1)
    assert proposals(1) != proposals(2)


def test_an_unknown_sampler_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(RequestError, match=r"got 'nsga' \(here\); did you mean 'nsga2'"):
        require_sampler("nsga", "here")


def test_tpe_is_optunas_under_both_of_its_names() -> None:
    context = SamplerContext(seed=0, study_seed=0, startup_trials=3)
    assert {type(make_sampler(name, context)) for name in ("tpe", "optuna_tpe")} == {optuna.samplers.TPESampler}


def test_a_total_below_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="trials >= 1 must hold, but got trials=0"):
        run_study(write_study(tmp_path / "study"), trials=0)
    assert not (tmp_path / "runs").exists()


def test_the_front_files_are_there_after_the_first_member(tmp_path: Path) -> None:
    run_study(write_study(tmp_path / "study"), trials=1)
    root = tmp_path / "runs" / "tiny"
    assert {"front.csv", "front.json", "front.png", "run.json", "study.journal"} <= {p.name for p in root.iterdir()}
    assert read_json(root / "front.json")["members"][0]["trial"] == 0
    assert not [name for name in snapshot(root) if Path(name).name.startswith(".") and not name.endswith(".lock")]
