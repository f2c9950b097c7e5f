"""Studies of one number, with Optuna's own pruners."""

from __future__ import annotations

import math
from pathlib import Path

import optuna
import pytest

from nas_compress.config.search_section import PRUNERS, SearchSection
from nas_compress.config.study_file import read_study
from nas_compress.errors import RequestError
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_records
from nas_compress.search.run import run_study
from nas_compress.search.storage.optuna_storage import open_storage
from nas_compress.search.trial_stopper import PrunerStopper, study_pruner
from nas_compress.values.metrics.table import Reward
from nas_compress.values.outcome import Measured
from running import write_study

SEARCH = 'sampler = "random"\nstartup_trials = 2\n{}\n[search.reward]\nkind = "hard"\nfigure = "macs"\ntarget = 60000'


def write(folder: Path, stop: str, *changes: tuple[str, str]) -> Path:
    return write_study(folder, ('sampler = "random"', SEARCH.format(stop)), *changes)


def test_what_a_halved_cost_is_worth() -> None:
    soft = Reward(kind="soft", figure="size_bytes", target=1000)
    for cost in (10.0, 1000.0, 77777.0):
        assert soft.value(0.5, 2 * cost) / soft.value(0.5, cost) == pytest.approx(2**-0.07)
    hard = Reward(kind="hard", figure="size_bytes", target=1000)
    assert hard.value(0.8, 1) == hard.value(0.8, 1000) == 0.8 and hard.value(0.8, 4000) == 0.2
    assert soft.value(0.9, 1000) == 0.9
    for wrong in ({"kind": "mild"}, {"figure": "accuracy"}, {"target": 0.0}, {"target": math.inf}):
        with pytest.raises(RequestError):
            Reward(**{"kind": "soft", "figure": "size_bytes", "target": 1.0} | wrong)  # type: ignore[arg-type]


def test_the_sampler_gets_the_reward_of_the_file_and_the_front_stays(tmp_path: Path) -> None:
    study = write(
        tmp_path / "study", 'stop = "median"', ("\nepochs = 1\n", "\nepochs = 2\n"), ("trials = 3", "trials = 4")
    )
    front = run_study(study)
    root = tmp_path / "runs" / "tiny"
    told = optuna.load_study(study_name="tiny", storage=open_storage(None, root / "study.journal"))
    assert [direction.name for direction in told.directions] == ["MAXIMIZE"]
    records = read_records(RunFolder(root=root))
    own = [record for record in records if record.repeats is None]
    for record in own:
        trial, measured = told.trials[record.trial], record.outcome.measured
        assert measured is not None
        if record.outcome.state == "stopped":
            assert trial.state.name == "PRUNED" and "pruner median" in (record.outcome.reason or "")
        else:
            assert "accuracy" in measured.figures
            assert trial.value == measured.figures["accuracy"] * min(1.0, 60000 / measured.figures["macs"])
            assert sorted(trial.intermediate_values) == [1, 2]
    trained = {record.trial for record in own if record.outcome.state == "trained"}
    assert {point.trial for point in front.members} <= trained and front.members


@pytest.mark.parametrize("name", PRUNERS)
def test_every_pruner_ends_a_hopeless_trial(name: str, tmp_path: Path) -> None:
    spec = read_study(write(tmp_path, f'stop = "{name}"', ("\nepochs = 1\n", "\nepochs = 9\n"))).spec
    assert spec.reward is not None
    study = optuna.create_study(direction="maximize", pruner=study_pruner(spec))
    cost = Measured(
        figures={"latency_ms": 1.0, "size_bytes": 1, "parameters": 1, "macs": 30000},
        latency_spread=0.0,
        latency_noisy=False,
    )
    ends = []
    for number in range(60):
        trial, reached = study.ask(), 0
        stopper = PrunerStopper(trial=trial, reward=spec.reward, name=name)
        stopper.begin(cost, 9)
        good = number % 2 == 0
        for reached in range(1, 10):
            if stopper.stop_reason(reached, (0.9 if good else 0.1) + number / 1000) is not None:
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                break
        else:
            study.tell(trial, 0.9 if good else 0.1)
        ends.append((good, reached))
    assert max(end for good, end in ends[20:] if good) == 9
    assert sum(end for good, end in ends[20:] if not good) < sum(end for good, end in ends[20:] if good)


def test_a_pruner_without_a_reward_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"needs search\.reward"):
        SearchSection(stop="hyperband")
    with pytest.raises(RequestError, match=r"study\.toml.*stop='median' needs search\.reward"):
        read_study(write_study(tmp_path, ('sampler = "random"', 'sampler = "random"\nstop = "median"')))
