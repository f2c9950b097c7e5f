"""The scale of the accuracy's model, and which observations it learns from."""

from __future__ import annotations

from random import Random

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.trial import create_trial

from nas_compress.config.suggest import Suggest
from nas_compress.search.samplers import flat_scale as flat_scale_module
from nas_compress.search.samplers.acquisition import Acquisition, expected_improvement, free_boxes
from nas_compress.search.samplers.ehvi_sampler import EHVISampler
from nas_compress.search.samplers.flat_scale import FlatScale, flat_scale
from nas_compress.search.samplers.observations import EARLY, LATE, Known, fullest, observe
from nas_compress.search.samplers.proposals import draw, key_of
from nas_compress.values.pareto import hypervolume
from quiet_optuna import quiet as quiet


def test_the_better_half_keeps_its_distances_and_the_worse_one_lies_closer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flat_scale_module, "FEWEST", 5)
    costs = np.array([-0.95, -0.93, -0.9, -0.5, -0.1])
    scale = flat_scale(costs, others=np.array([0.0, np.nan, -0.1]))
    assert scale is not None and scale.middle == -0.9 and scale.worst == 0.0
    assert scale.spread == pytest.approx(np.sqrt((0.05**2 + 0.03**2) / 3))
    places = scale.flat(costs)
    assert places[:3] == pytest.approx(costs[:3]) and (np.diff(places) > 0).all()
    assert places[4] == pytest.approx(-0.9 + scale.spread * np.log1p(0.8 / scale.spread))
    assert scale.costs(places) == pytest.approx(costs)
    assert scale.costs(np.array([9.0])) == pytest.approx([0.0]), "nothing is worse than the worst"
    slopes = (scale.flat(costs + 1e-7) - scale.flat(costs - 1e-7)) / 2e-7
    assert scale.slopes(costs)[[0, 1, 3, 4]] == pytest.approx(slopes[[0, 1, 3, 4]], rel=1e-4)
    assert flat_scale(costs[:4], others=costs) is None and flat_scale(np.ones(9), others=costs) is None


def test_the_moments_are_those_of_draws() -> None:
    scale = FlatScale(middle=-0.9, spread=0.05, worst=0.0)
    means, deviations = np.array([-0.95, -0.88]), np.array([0.01, 0.04])
    draws = scale.costs(np.random.default_rng(0).normal(means, deviations, (40_000, 2)))
    found = scale.moments(means, deviations)
    assert found[0] == pytest.approx(draws.mean(axis=0), rel=0.01)
    assert found[1] == pytest.approx(draws.std(axis=0), rel=0.05)


def test_the_improvement_of_a_skewed_quality_is_the_mean_over_draws() -> None:
    scale = FlatScale(middle=-0.9, spread=0.05, worst=0.0)
    front, corner = np.array([[-0.93, 0.5], [-0.8, 0.2]]), np.array([-0.6, 1.0])
    place, deviation, size = -0.85, 0.06, 0.3
    boxes, moments = free_boxes(front, corner), scale.moments(np.array([place]), np.array([deviation]))
    draws = scale.costs(np.random.default_rng(0).normal(place, deviation, 4000))
    before = hypervolume(front, corner)
    drawn = np.mean([hypervolume(np.vstack([front, [[draw, size]]]), corner) - before for draw in draws])
    places, spreads = np.array([[place, size]]), np.array([[deviation, 1e-9]])
    assert expected_improvement(places, spreads, *boxes, {0: scale}) == pytest.approx(drawn, rel=0.1)
    means, deviations = np.array([[moments[0][0], size]]), np.array([[moments[1][0], 1e-9]])
    as_normal = expected_improvement(means, deviations, *boxes)
    assert as_normal > 1.2 * drawn  # a normal forecast of that spread promises what the scale rules out


@pytest.mark.parametrize("place", [-0.97, -0.9, -0.85, -0.6])
def test_the_room_below_a_limit_is_that_of_draws_and_normal_in_the_better_half(place: float) -> None:
    scale = FlatScale(middle=-0.9, spread=0.05, worst=-0.2)
    limits, deviation = np.array([-0.99, -0.93, -0.9, -0.7, -0.3, -0.1]), 0.03
    found = scale.room(limits, np.array([place]), np.array([deviation]))[0]
    draws = np.random.default_rng(0).normal(place, deviation, 400_000)
    drawn = np.maximum(limits[:, None] - scale.costs(draws), 0).mean(axis=1)
    assert found == pytest.approx(drawn, rel=0.02, abs=3e-5)
    normal = np.maximum(limits[:3, None] - draws, 0).mean(axis=1)
    assert found[:3] == pytest.approx(normal, rel=0.02, abs=3e-5)
    sure = scale.room(limits, np.array([place]), np.array([1e-9]))[0]
    assert sure == pytest.approx(np.maximum(limits - scale.costs(np.array([place])), 0), abs=1e-6)


def suggest(trial: Suggest) -> tuple[int, str]:
    return trial.suggest_int("width", 1, 200), trial.suggest_categorical("kind", ["a", "b"])


KINDS = {"width": IntDistribution(1, 200), "kind": CategoricalDistribution(("a", "b"))}


def test_look_ups_do_not_displace_trained_candidates_from_the_models() -> None:
    study = optuna.create_study(directions=["maximize", "minimize"])
    params = [{"width": width, "kind": kind} for width in range(1, 31) for kind in "ab"]
    for each in params:
        width = int(each["width"])  # type: ignore[call-overload]
        study.add_trial(create_trial(params=each, distributions=KINDS, values=[1 - 1 / width, width]))
    looked = {
        key_of(each): (each, Known(values=(None, float(width)), constraints={}))
        for width in range(31, 201)
        for each in ({"width": width, "kind": "a"},)
    }
    observed = observe(fullest(study.trials), looked, study.directions)
    assert len(params) <= EARLY and np.isfinite(observed.costs[:, 0]).sum() == len(params)
    assert np.isnan(observed.costs[:, 0]).sum() <= EARLY + LATE


def test_students_that_learn_nothing_do_not_spoil_the_model_of_the_others() -> None:
    study = optuna.create_study(directions=["maximize", "minimize"])
    truth = {width: 0.95 - 0.1 / width for width in range(1, 200)}
    for width in range(2, 94, 3):
        dead = width in (11, 26, 41)
        values = [0.1 if dead else truth[width], float(width)]
        params = {"width": width, "kind": "b" if dead else "a"}
        study.add_trial(create_trial(params=params, distributions=KINDS, values=values))
    points = [draw(suggest, Random(0), {"width": width, "kind": "a"}) for width in (3, 9, 25, 40)]
    observed = observe(fullest(study.trials), {}, study.directions)
    means, _ = Acquisition(observed, points[0].distributions).forecast(points)
    errors = [abs(-mean - truth[int(point.params["width"])]) for mean, point in zip(means[:, 0], points, strict=True)]
    assert max(errors) < 0.05
    scale = flat_scale(observed.costs[:, 0], others=observed.costs[:, 0])
    assert scale is not None and -0.9 < scale.limit < -0.1, "nor do they decide what the volume counts"


def test_a_candidate_that_other_parameters_describe_is_not_proposed_again() -> None:
    def folded(trial: Suggest) -> int:
        left, right = trial.suggest_int("left", 0, 3), trial.suggest_int("right", 0, 3)
        return left + right

    study = optuna.create_study(directions=["maximize", "minimize"])
    found = []
    for number in range(7):
        study.sampler = EHVISampler(seed=number, startup_trials=3, space=folded)
        trial = study.ask()
        total = folded(trial)  # type: ignore[arg-type]
        found.append(total)
        study.tell(trial, [total / 6, float(total + 1)])
    assert sorted(found) == list(range(7)), "16 points are 7 candidates"
