"""The adapter on real Optuna studies, whose trials run beside each other and in other processes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from nas_compress.errors import RequestError
from nas_compress.stopping.curve import Curve
from nas_compress.stopping.moasha import MoAsha
from nas_compress.stopping.optuna_adapter import CURVE, Watch, curve_attribute, curve_of
from quiet_optuna import quiet as quiet

RULE = MoAsha(rungs=(1 / 9, 1 / 3), eta=3)


def watch(study: optuna.Study, *known: float, learned: int = 0) -> Watch:
    return Watch(trial=study.ask(), rule=RULE, known=known, planned=9, learned=learned)


def two_objectives(storage: JournalStorage | None = None) -> optuna.Study:
    return optuna.create_study(directions=["maximize", "minimize"], storage=storage)


def test_directions_are_the_studys() -> None:
    study = optuna.create_study(directions=["minimize", "maximize", "maximize"])  # size, accuracy, throughput
    for _ in range(5):
        watch(study, 5.0, 10.0, learned=1).report(1, 0.5)
    assert watch(study, 6.0, 9.0, learned=1).report(1, 0.4) is not None, "worse in all three"
    assert watch(study, 4.0, 11.0, learned=1).report(1, 0.6) is None, "better in all three"


def test_trials_that_still_run_are_compared_with() -> None:
    study = two_objectives()
    first, second = watch(study, 1.0), watch(study, 2.0)
    assert first.report(1, 0.9) is None
    assert second.report(1, 0.1) is not None


def test_what_another_process_stored_is_seen(tmp_path: Path) -> None:
    path = str(tmp_path / "study.journal")
    study = two_objectives(JournalStorage(JournalFileBackend(path)))
    numbers = Watch(trial=study.ask(), rule=RULE, known=[np.float32(1.0)], planned=np.int64(9))  # type: ignore[arg-type]
    assert numbers.report(np.int64(1), torch.tensor(0.9)) is None  # type: ignore[arg-type]
    other = optuna.load_study(study_name=study.study_name, storage=JournalStorage(JournalFileBackend(path)))
    assert watch(other, 2.0).report(1, 0.1) is not None


def test_failed_trials_do_not_count() -> None:
    study = two_objectives()
    best = watch(study, 1.0)
    best.report(1, 0.9)
    study.tell(best.trial.number, state=optuna.trial.TrialState.FAIL)
    assert watch(study, 2.0).report(1, 0.1) is None


def test_a_caller_that_trains_on_is_seen_by_others_as_if_it_had_stopped() -> None:
    study = two_objectives()
    assert watch(study, 1.0).report(1, 0.9) is None
    shadow = watch(study, 2.0)
    assert shadow.report(1, 0.1) is not None and shadow.stopped_at == 1
    shadow.report(3, 0.99)
    attribute = study.trials[1].user_attrs[CURVE]
    assert [point[0] for point in attribute["points"]] == [1, 3] and attribute["spoke_at"] == 1
    assert curve_of(attribute).step == 1
    assert watch(study, 3.0).report(3, 0.5) is None, "nobody reached step 3 under the rule"


def test_a_value_that_is_no_number_is_the_worst() -> None:
    study = two_objectives()
    assert watch(study, 2.0).report(1, 0.1) is None
    broken = watch(study, 2.0)
    assert broken.report(1, math.nan) is not None
    assert curve_of(study.trials[1].user_attrs[CURVE]).points == ((1, math.inf),)


def test_steps_that_the_rule_does_not_want_leave_no_trace() -> None:
    study = two_objectives()
    assert watch(study, 1.0).report(2, 0.5) is None
    assert CURVE not in study.trials[0].user_attrs


def test_a_curve_survives_its_attribute() -> None:
    curve = Curve(known=(1.0, 2.0), planned=9, points=((1, -0.5), (3, math.inf)))
    assert curve_of(curve_attribute(curve, None)) == curve


def test_objectives_that_do_not_fit_are_refused() -> None:
    with pytest.raises(RequestError, match="known must hold every objective but the learned one, but got 2 of 2"):
        watch(two_objectives(), 1.0, 2.0)
    with pytest.raises(RequestError, match="learned=2"):
        watch(two_objectives(), 1.0, learned=2)
