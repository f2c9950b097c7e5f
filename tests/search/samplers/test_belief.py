"""The user's guess of good parameters and earlier studies in the sampler ehvi."""

from __future__ import annotations

from random import Random

import numpy as np
import optuna
import pytest
from optuna.samplers import RandomSampler
from optuna.trial import Trial

from nas_compress.config.suggest import Suggest
from nas_compress.search.samplers.acquisition import Acquisition
from nas_compress.search.samplers.belief import OTHER, logarithms
from nas_compress.search.samplers.earlier import EARLIER, Earlier, as_text, earlier_candidates
from nas_compress.search.samplers.ehvi_sampler import EHVISampler
from nas_compress.search.samplers.observations import fullest, observe
from nas_compress.search.samplers.proposals import draw
from quiet_optuna import quiet as quiet


def space(trial: Suggest) -> tuple[int, str]:
    return trial.suggest_int("width", 1, 9), trial.suggest_categorical("kind", ["a", "b"])


def figures(width: int, kind: str) -> tuple[float, float]:
    return 1 - 1 / (width + (kind == "a")), float(width)


def objective(trial: Trial) -> tuple[float, float]:
    width, kind = space(trial)  # type: ignore[arg-type]
    return figures(width, kind)


def test_the_factor_of_a_guess_is_one_there_and_fades() -> None:
    random = Random(0)
    points = [draw(space, random, {"width": width, "kind": kind}) for width, kind in ((5, "a"), (5, "b"), (7, "a"))]
    prior = {"width": 5, "kind": "a"}
    logs = logarithms(points, prior, trials=10)
    assert logs == pytest.approx([0, np.log(OTHER), -0.5 * (0.25 / 0.25) ** 2])
    assert logarithms(points, prior, trials=100) == pytest.approx(logs / 10)
    assert logarithms(points, {}, trials=1) == pytest.approx([0, 0, 0])


def test_the_first_trial_is_the_guess_and_a_wrong_one_is_overruled() -> None:
    def chosen(prior: dict[str, object], trials: int) -> list[dict[str, object]]:
        study = optuna.create_study(directions=["maximize", "minimize"])
        for number in range(trials):
            study.sampler = EHVISampler(seed=number, startup_trials=3, space=space, prior=prior)
            study.optimize(objective, n_trials=1)
        return [trial.params for trial in study.trials]

    guess: dict[str, object] = {"width": 9, "kind": "b"}
    assert chosen(guess, 1) == [guess]
    near = [params["kind"] == "b" for params in chosen({"kind": "b"}, 8)[3:]]
    without = [params["kind"] == "b" for params in chosen({}, 8)[3:]]
    assert sum(near) >= sum(without)
    assert {params["kind"] for params in chosen(guess, 12)[6:]} >= {"a"}, "kind a is better at each width"


def test_earlier_candidates_teach_the_models_and_are_neither_front_nor_closed() -> None:
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=RandomSampler(seed=0))
    known = [
        Earlier(source=0, params={"width": width, "kind": kind}, values=figures(width, kind), constraints={})
        for width in range(1, 10)
        for kind in "ab"
    ]
    study.set_user_attr(f"{EARLIER}0", as_text(known))
    assert earlier_candidates(study) == known
    study.optimize(objective, n_trials=2)
    observed = observe(fullest(study.trials), {}, study.directions, None, known)
    assert len(observed.keys) == 20 and observed.own.sum() == 2 and max(observed.front) < 2
    random = Random(1)
    points = [draw(space, random, {"width": width, "kind": "a"}) for width in range(1, 10)]
    models = Acquisition(observed, points[0].distributions)
    asked = models.improvements(points)
    plain = Acquisition(observe(fullest(study.trials), {}, study.directions), points[0].distributions)
    truth = [figures(width, "a")[0] for width in range(1, 10)]

    def error(told: Acquisition) -> float:
        means = np.array([told.forecast([point])[0][0, 0] for point in points])
        return float(np.abs(-means - truth).mean())

    assert np.isfinite(asked).all() and error(models) < error(plain) / 2
    sampler = EHVISampler(seed=0, startup_trials=3, space=space)
    trial = study.ask()
    proposed = sampler._propose(study, study.trials[trial.number])
    assert proposed is not None and proposed.params not in [each.params for each in study.trials[:2]]
    study.set_user_attr(f"{EARLIER}1", "[[1]]")
    assert earlier_candidates(study) == known, "values of other programs are left out"
