"""The user's guess of good parameters and earlier studies in the sampler ehvi."""

from __future__ import annotations

from random import Random

import numpy as np
import optuna
import pytest
from optuna.distributions import IntDistribution
from optuna.samplers import RandomSampler
from optuna.trial import Trial, create_trial

from nas_compress.config.suggest import Suggest
from nas_compress.search.samplers.acquisition import Acquisition, best_quality
from nas_compress.search.samplers.belief import OTHER, as_suggested, logarithms
from nas_compress.search.samplers.earlier import EARLIER, Earlier, as_text, earlier_candidates, in_own_spread
from nas_compress.search.samplers.ehvi_sampler import EHVISampler
from nas_compress.search.samplers.observations import Known, fullest, observe
from nas_compress.search.samplers.proposals import draw, key_of
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


def test_a_whole_number_is_the_guess_among_choices_with_fractions() -> None:
    def widths(trial: Suggest) -> float:
        return trial.suggest_categorical("width", [0.25, 0.5, 1.0])

    guess = as_suggested(widths, {"width": 1})
    points = [draw(widths, Random(0), {"width": width}) for width in (0.25, 0.5, 1.0)]
    logs = logarithms(points, guess, trials=10)
    assert type(guess["width"]) is float and logs[0] < logs[1] < logs[2] == 0
    assert (logarithms(points, {"width": "of another branch"}, trials=10) == 0).all()


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


def test_an_earlier_run_of_other_accuracies_does_not_hide_differences_of_this_study() -> None:
    sources = [None, None, None, 0, 0, 0, 1, 1, 1]
    values = np.array([-0.98, -0.96, -0.94, -0.9, -0.5, -0.1, -0.95, -0.96, np.nan])
    found = in_own_spread(values, sources)
    assert found[:3] == pytest.approx(values[:3])
    assert found[3:6] == pytest.approx([-0.52, -0.5, -0.48])  # the mean stays, and so does the order
    assert found[6:8] == pytest.approx(values[6:8]) and np.isnan(found[8])  # closer than the own ones
    assert in_own_spread(values[1:], sources[1:]) == pytest.approx(values[1:], nan_ok=True)  # two say no spread


def test_earlier_accuracies_do_not_decide_which_own_ones_count() -> None:
    """A much longer training was better everywhere: its level is out of reach here."""
    study = optuna.create_study(directions=["maximize", "minimize"])

    def wide(trial: Suggest) -> int:
        return trial.suggest_int("width", 1, 200)

    kinds = {"width": IntDistribution(1, 200)}
    for width in range(1, 81, 2):
        study.add_trial(create_trial(params={"width": width}, distributions=kinds, values=[0.3 + width / 1e3, width]))
    known = [
        Earlier(source=0, params={"width": width}, values=(0.99 - 0.01 / width, float(width)), constraints={})
        for width in range(1, 60)
    ]
    points = [draw(wide, Random(0), {"width": width}) for width in (2, 40)]
    models = Acquisition(observe(fullest(study.trials), {}, study.directions, None, known), kinds)
    assert models.improvements(points).min() > 1e-6


def test_extents_are_those_of_earlier_studies_until_there_are_own_figures() -> None:
    known = [
        Earlier(source=0, params={"width": width, "kind": "a"}, values=figures(width, "a"), constraints={})
        for width in range(1, 10)
    ]
    directions = optuna.create_study(directions=["maximize", "minimize"]).directions
    params = [{"width": width, "kind": "b"} for width in range(1, 10)]
    looked = {key_of(each): (each, Known(values=(None, 2.0 + row), constraints={})) for row, each in enumerate(params)}
    best = best_quality(observe({}, looked, directions, None, known))
    assert best == pytest.approx(figures(9, "a")[0]), "no accuracy is known, but that of earlier students is"
