"""The sampler ehvi: its model, its expectation and what it learns from, against definitions; its proposals as laws."""

from __future__ import annotations

import math
import warnings
from random import Random
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from nas_compress.config.suggest import Suggest
from nas_compress.search.samplers import ehvi_sampler
from nas_compress.search.samplers.acquisition import Acquisition, best_quality, expected_improvement, free_boxes
from nas_compress.search.samplers.ehvi_sampler import EHVISampler
from nas_compress.search.samplers.gaussian_process import _misfit, condition, differences, find_hyperparameters
from nas_compress.search.samplers.observations import FAILED, Known, fullest, observe
from nas_compress.search.samplers.proposals import draw, features, key_of, neighbour
from nas_compress.stopping.optuna_adapter import CURVE
from nas_compress.values.pareto import hypervolume
from quiet_optuna import quiet as quiet

BOTH = (StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE)
X = IntDistribution(0, 9)


def front_of(random: np.random.Generator, columns: int) -> np.ndarray:
    return random.random((7, columns))


@pytest.mark.parametrize("columns", [1, 2, 3, 4])
def test_boxes_fill_what_the_front_leaves_free_and_sure_figures_add_their_volume(columns: int) -> None:
    random, corner = np.random.default_rng(columns), np.full(columns, 1.1)
    front = front_of(random, columns)
    lower, upper = free_boxes(front, corner)
    inside = np.prod(np.maximum(upper - np.maximum(lower, -1.0), 0), axis=1).sum()
    assert inside == pytest.approx(2.1**columns - hypervolume(front, corner))
    rows = random.uniform(-0.3, 1.3, (20, columns))
    gains = [hypervolume(np.vstack([front, row]), corner) - hypervolume(front, corner) for row in rows]
    found = expected_improvement(rows, np.full_like(rows, 1e-9), lower, upper)
    assert found == pytest.approx(gains, abs=1e-6)
    assert max(gains) > 0 and min(gains) == 0


def test_the_expectation_is_the_mean_over_draws() -> None:
    random, corner = np.random.default_rng(0), np.ones(2)
    front = np.array([[0.2, 0.7], [0.5, 0.3]])
    mean, deviation = np.array([0.4, 0.4]), np.array([0.2, 0.1])
    draws = random.normal(mean, deviation, (4000, 2))
    before = hypervolume(front, corner)
    drawn = np.mean([hypervolume(np.vstack([front, row]), corner) - before for row in draws])
    assert expected_improvement(mean[None], deviation[None], *free_boxes(front, corner)) == pytest.approx(
        drawn, rel=0.1
    )


def test_places_are_numbers_between_the_ends_ranks_and_names() -> None:
    kinds: dict[str, BaseDistribution] = {
        "bits": CategoricalDistribution((8, 2, 32)),
        "kind": CategoricalDistribution(("a", "b")),
        "rate": FloatDistribution(0.01, 1.0, log=True),
        "width": IntDistribution(2, 10),
    }
    rows: list[dict[str, Any]] = [{"bits": 8, "kind": "b", "rate": 0.1, "width": 4}, {"bits": 32, "rate": 1.0}]
    places, unordered = features(rows, kinds)
    assert unordered.tolist() == [False, True, False, False]
    assert places[0] == pytest.approx([0.5, 1, 0.5, 0.25]) and places[1, [0, 2]] == pytest.approx([1, 1])
    assert np.isnan(places[1, [1, 3]]).all()
    apart = differences(places, places, unordered)
    assert apart[0, 1] == pytest.approx([0.25, 1, 0.25, 0.25**2 + 0.75]) and not apart[1, 1].any()


def test_the_kernel_of_conditional_parameters_is_positive_definite() -> None:
    places = np.array([[0.0], [0.25], [0.5], [0.75], [1.0], [np.nan]])
    for names in (False, True):
        apart = differences(places, places, np.array([names]))[:, :, 0]
        for weight in (0.01, 0.1, 1.0, 10.0):
            assert np.linalg.eigvalsh(np.exp(-weight * apart)).min() > -1e-12


def test_a_process_knows_what_it_saw_and_doubts_what_is_far() -> None:
    random = np.random.default_rng(1)
    places = random.random((12, 2))
    values = 5 + 3 * places[:, 0]
    names = np.zeros(2, dtype=np.bool_)
    apart = differences(places, places, names)
    logs = find_hyperparameters(apart, values, np.zeros(12))
    process = condition(apart, values, np.zeros(12), logs)
    mean, deviation = process.predict(apart)
    assert mean == pytest.approx(values, abs=0.3) and (deviation < 0.5).all()
    far = process.predict(differences(np.array([[0.5, 0.5], [9.0, 9.0]]), places, names))
    assert far[0][0] == pytest.approx(6.5, abs=0.3) and far[1][1] > 3 * far[1][0]
    assert logs[0] > logs[1], "the first parameter matters, the second does not"
    unsure = condition(apart, values, np.r_[100.0, np.zeros(11)], logs).predict(apart)[1]
    assert unsure[0] > deviation[0], "what was extrapolated counts for less"


def test_the_gradient_is_the_slope_of_the_misfit() -> None:
    random = np.random.default_rng(2)
    places = random.random((6, 3))
    apart = differences(places, places, np.array([False, False, True]))
    logs, values, expected = random.normal(size=6), random.normal(size=6), np.zeros(6)
    _, gradient = _misfit(logs, apart, values, np.full(6, 0.01), expected)
    for column in range(6):
        step = 1e-5 * np.eye(6)[column]
        high, low = (_misfit(logs + sign * step, apart, values, np.full(6, 0.01), expected)[0] for sign in (1, -1))
        assert gradient[column] == pytest.approx((high - low) / 2e-5, rel=1e-4, abs=1e-6)


def told(x: int, values: list[float] | None, *points: tuple[int, float], **more: Any) -> FrozenTrial:
    """A trial of one parameter; points are (epoch, minus accuracy) of nine epochs, and its curve's known cost."""
    attributes = dict(more.pop("user_attrs", {}))
    if points:
        known = [] if values is None else values[1:]
        attributes[CURVE] = {"known": known, "planned": 9, "points": [list(p) for p in points], "spoke_at": None}
    return create_trial(params={"x": x}, distributions={"x": X}, values=values, user_attrs=attributes, **more)


def test_a_stopped_trial_counts_with_what_others_gained_and_is_not_on_the_front() -> None:
    trials = [
        told(0, [0.8, 10.0], (1, -0.5), (9, -0.8)),
        told(1, [0.9, 20.0], (1, -0.5), (9, -0.9)),
        told(2, [0.6, 5.0], (1, -0.6)),
        told(3, [0.6, 5.0], (3, -0.6)),
    ]
    seen = observe(fullest(trials), {}, BOTH)
    assert seen.costs[:, 1] == pytest.approx(np.log([10, 20, 5, 5]))
    assert seen.costs[:3, 0] == pytest.approx([-0.8, -0.9, -0.6 - 0.35]), "the mean of 0.3 and 0.4"
    assert seen.variances[2, 0] == pytest.approx(0.005) and np.isnan(seen.costs[3, 0]), "nobody passed epoch 3"
    assert seen.front.tolist() == [0, 1]


def test_what_never_trained_tells_its_costs_and_what_failed_breaks_a_constraint() -> None:
    over = told(0, [0.1, 90.0], constraints={"size": 0.5}, user_attrs={"state": "over_budget"})
    good = told(1, [0.8, 10.0], constraints={"size": -0.5})
    failed = told(2, None, state=TrialState.FAIL)
    known = {key_of({"x": 3}): ({"x": 3}, Known(values=(None, 7.0), constraints={"size": -0.7}))}
    seen = observe(fullest([over, good, failed]), known, BOTH)
    row = {params["x"]: number for number, params in enumerate(seen.params)}
    assert np.isnan(seen.costs[row[0], 0]) and seen.costs[row[0], 1] == pytest.approx(math.log(90))
    assert seen.costs[row[3]] == pytest.approx([np.nan, math.log(7)], nan_ok=True)
    assert seen.excess[row[2]].tolist()[1] == 1 and seen.excess[row[1]].tolist() == [-0.5, -1], FAILED
    assert seen.front.tolist() == [row[1]]


def test_an_untrained_trial_has_no_value_of_a_minimised_metric_that_training_determines() -> None:
    both = [StudyDirection.MINIMIZE, StudyDirection.MINIMIZE]
    over = told(0, [2.0, 90.0], user_attrs={"state": "over_budget"})
    seen = observe(fullest([over, told(1, [0.5, 10.0])]), {}, both, ["perplexity", "size_bytes"])
    assert np.isnan(seen.costs[0, 0]) and seen.costs[0, 1] == pytest.approx(math.log(90))


def test_a_maximised_figure_of_a_logarithmic_metric_is_a_cost_in_logarithms() -> None:
    both = [StudyDirection.MAXIMIZE, StudyDirection.MAXIMIZE]
    over = told(0, [0.1, 90.0], user_attrs={"state": "over_budget"})
    seen = observe(fullest([over, told(1, [0.5, 10.0])]), {}, both, ["accuracy", "samples_per_s"])
    assert seen.costs == pytest.approx(np.array([[np.nan, -math.log(90)], [-0.5, -math.log(10)]]), nan_ok=True)
    unnamed = observe(fullest([told(0, [0.1, 90.0])]), {}, both)
    assert unnamed.costs.tolist() == [[-0.1, -90.0]]


def space(trial: Suggest) -> tuple[int, str]:
    width = trial.suggest_int("width", 1, 32)
    kind = trial.suggest_categorical("kind", ["good", "fair", "bad"])
    if kind == "bad":
        trial.suggest_float("only_of_bad", 0, 1)
    return width, kind


def accuracy_of(width: int, kind: str) -> float:
    return 1 - 1 / width - {"good": 0.0, "fair": 0.2, "bad": 0.4}[kind]


def objective(trial: optuna.Trial) -> tuple[float, float]:
    width, kind = space(trial)  # type: ignore[arg-type]
    trial.set_constraint("width", width / 20 - 1)
    return accuracy_of(width, kind), float(width)


def test_points_follow_the_space() -> None:
    random = Random(0)
    drawn = [draw(space, random, {"width": 7}) for _ in range(30)]
    assert {point.params["width"] for point in drawn} == {7} and {s.candidate[1] for s in drawn} == {
        "good",
        "fair",
        "bad",
    }  # type: ignore[index]
    assert all(("only_of_bad" in point.params) == (point.params["kind"] == "bad") for point in drawn)
    for point in (neighbour(space, random, {"width": 7, "kind": "good"}, {"kind": "good"}) for _ in range(30)):
        assert point.params["kind"] == "good" and point.distributions["width"] == IntDistribution(1, 32)


class Lookups:
    """Costs before training, and how often they were asked for."""

    def __init__(self) -> None:
        self.asked: list[object] = []

    def __call__(self, candidate: object) -> Known | None:
        self.asked.append(candidate)
        width = candidate[0]  # type: ignore[index]
        return None if width == 13 else Known(values=(None, float(width)), constraints={"width": width / 20 - 1})


def run(study: optuna.Study, lookups: Lookups | None, trials: range) -> None:
    for number in trials:
        study.sampler = EHVISampler(seed=number, startup_trials=10, space=space, costs=lookups)
        study.optimize(objective, n_trials=1)


def test_costs_are_looked_up_once_and_a_study_that_goes_on_proposes_the_same() -> None:
    whole, halves = (optuna.create_study(directions=["maximize", "minimize"]) for _ in range(2))
    lookups = Lookups()
    run(whole, lookups, range(9))
    first = Lookups()
    run(halves, first, range(5))
    run(halves, rest := Lookups(), range(5, 9))
    assert [t.params for t in whole.trials] == [t.params for t in halves.trials]
    assert len(lookups.asked) == len(first.asked) + len(rest.asked), "what is known is not asked for again"
    assert len(first.asked) >= ehvi_sampler.SURVEY and len(rest.asked) <= 4 * ehvi_sampler.LOOKS
    learned = [t.params for t in whole.trials[ehvi_sampler.START :]]
    assert all(params["width"] <= 20 for params in learned), "what is known to break a constraint is not proposed"
    assert len({str(t.params) for t in whole.trials}) == 9, "each candidate once"


def test_running_candidates_are_not_proposed_and_given_values_are_kept() -> None:
    study = optuna.create_study(directions=["maximize", "minimize"])
    run(study, None, range(8))
    study.sampler = EHVISampler(seed=1, startup_trials=3, space=space)
    asked = [study.ask() for _ in range(4)]
    for trial in asked:
        space(trial)  # type: ignore[arg-type]
    everything = [str(trial.params) for trial in study.trials]
    assert len(set(everything)) == 12, "with the same seed four workers get four candidates"
    study.enqueue_trial({"kind": "fair"})
    assert space(study.ask())[1] == "fair"  # type: ignore[arg-type]


def test_a_candidate_that_another_worker_began_meanwhile_is_not_proposed() -> None:
    def next_of(begun: FrozenTrial | None) -> dict[str, Any]:
        study = optuna.create_study(directions=["maximize", "minimize"])
        run(study, None, range(6))

        def look(candidate: object) -> Known | None:
            if begun is not None and len(study.trials) == 7:
                study.add_trial(begun)
            return Lookups()(candidate)

        study.sampler = EHVISampler(seed=1, startup_trials=3, space=space, costs=look)
        trial = study.ask()
        space(trial)  # type: ignore[arg-type]
        return trial.params

    alone = next_of(None)
    kinds: dict[str, BaseDistribution] = {
        "width": IntDistribution(1, 32),
        "kind": CategoricalDistribution(("good", "fair", "bad")),
        "only_of_bad": FloatDistribution(0, 1),
    }
    known = {name: kinds[name] for name in alone}
    assert next_of(create_trial(state=TrialState.RUNNING, params=alone, distributions=known)) != alone


def test_a_space_that_is_used_up_gives_random_proposals() -> None:
    def two(trial: Suggest) -> str:
        return trial.suggest_categorical("x", ["a", "b"])

    study = optuna.create_study()
    for number in range(8):
        study.sampler = EHVISampler(seed=number, startup_trials=3, space=two)
        study.optimize(lambda trial: float(two(trial) == "a"), n_trials=1)  # type: ignore[arg-type]
    assert len({trial.params["x"] for trial in study.trials[:2]}) == 2
    assert len({trial.params["x"] for trial in study.trials[2:]}) == 2


def test_an_improvement_is_large_where_it_should_be() -> None:
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=RandomSampler(seed=0))
    study.optimize(objective, n_trials=25)
    random = Random(1)
    points = [draw(space, random, {"kind": kind}) for kind in ("good", "bad") for _ in range(20)]
    seen = {name: kind for point in points for name, kind in point.distributions.items()}
    models = Acquisition(observe(fullest(study.trials), {}, study.directions), seen)
    found = models.improvements(points)
    wide = np.array([point.params["width"] > 23 for point in points])
    assert found[:20].sum() > 3 * found[20:].sum(), "a good kind may push the front, a bad one hardly"
    assert found[wide].max() < 0.1 * found[:20].max(), "and one that breaks a constraint is no improvement"


def test_a_floor_moves_the_interest() -> None:
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=RandomSampler(seed=0))

    def suggest(trial: Suggest) -> tuple[float, float]:
        width = trial.suggest_int("width", 1, 30)
        return width / 30, float(width)

    study.optimize(suggest, n_trials=12)  # type: ignore[arg-type]
    points = [draw(suggest, Random(seed), {"width": width}) for seed, width in enumerate(range(1, 31))]
    observed = observe(fullest(study.trials), {}, study.directions, ("accuracy", "size_bytes"))
    assert observed.quality == 0 and observed.is_share
    accuracy = np.array([point.params["width"] / 30 for point in points])
    assert best_quality(observed) == -float(observed.costs[:, 0].min())
    seen = dict(points[0].distributions)

    def below(limit: float, *floors: float | None) -> float:
        found = Acquisition(observed, seen, floors=floors).improvements(points)
        return float(found[accuracy < limit - 0.1].max() / found.max())

    assert below(0.8, None) > 0.01, "the whole front counts"
    assert below(0.8, 0.8) < 0.01
    assert 0.01 < below(0.8, None, 0.8) < below(0.8, None), "both count"


def grown(trial: Suggest) -> tuple[float, float]:
    """Accuracy and cost of a network by its width and kind; the last points cost the most."""
    width = trial.suggest_int("width", 1, 60)
    kind = trial.suggest_categorical("kind", ["a", "b", "c"])
    return 1 - 0.5 / (1 + width / 4) - 0.02 * (kind == "b"), float(width) * (1.5 if kind == "c" else 1.0)


def test_more_proposals_lie_above_a_floor() -> None:
    def above(floor: float | None) -> int:
        count = 0
        for seed in range(4):
            study = optuna.create_study(directions=["maximize", "minimize"])
            with warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
                study.set_metric_names(["accuracy", "size_bytes"])
            for number in range(12):
                study.sampler = EHVISampler(seed=100 * seed + number, startup_trials=3, space=grown, floor=floor)
                study.optimize(grown, n_trials=1)  # type: ignore[arg-type]
            count += sum(trial.values[0] >= 0.95 for trial in study.trials[3:])
        return count

    assert above(0.95) > above(None)


def test_every_second_proposal_counts_students_near_the_teacher_or_a_better_one() -> None:
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=RandomSampler(seed=0))
    study.optimize(grown, n_trials=5)  # type: ignore[arg-type]
    observed = observe(fullest(study.trials), {}, study.directions, ("accuracy", "size_bytes"))
    best = best_quality(observed)
    assert best is not None

    def floors(*, near: bool, floor: float | None = None, teacher: float | None = None) -> tuple[float | None, ...]:
        return EHVISampler(seed=0, startup_trials=3, floor=floor, teacher=teacher)._floors(observed, near=near)

    assert floors(near=True, teacher=0.99) == pytest.approx((0.96,))
    assert floors(near=True, teacher=0.1) == floors(near=True) == pytest.approx((best - ehvi_sampler.NEAR,))
    assert floors(near=False, teacher=0.99) == (None,)
    assert floors(near=True, floor=0.7, teacher=0.99) == floors(near=False, floor=0.7) == (0.7,)


def test_students_far_below_the_teacher_are_improved_near_the_best_of_them() -> None:
    """Above a level that no student seems to reach all candidates are equal: the choice would be one by chance."""
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=RandomSampler(seed=0))
    study.optimize(grown, n_trials=20)  # type: ignore[arg-type]
    observed = observe(fullest(study.trials), {}, study.directions, ("accuracy", "size_bytes"))
    best = best_quality(observed)
    assert best is not None
    random = Random(0)
    points = [draw(grown, random, {}) for _ in range(40)]
    seen = points[0].distributions
    far = EHVISampler(seed=0, startup_trials=3, teacher=best + 3.0)._models(observed, seen, points, near=True)
    near_best = Acquisition(observed, seen, floors=(best - ehvi_sampler.NEAR,)).improvements(points)
    np.testing.assert_array_equal(far.improvements(points), near_best)
    assert near_best.max() > 1e-4
    close = EHVISampler(seed=0, startup_trials=3, teacher=best + 0.02)._models(observed, seen, points, near=True)
    in_reach = Acquisition(observed, seen, floors=(best + 0.02 - ehvi_sampler.NEAR,)).improvements(points)
    np.testing.assert_array_equal(close.improvements(points), in_reach)


def test_costs_known_before_training_are_no_quality() -> None:
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=RandomSampler(seed=0))
    study.optimize(lambda trial: (trial.suggest_float("x", 1, 2), 1.0), n_trials=3)
    assert observe(fullest(study.trials), {}, study.directions, ("samples_per_s", "size_bytes")).quality is None


def test_it_finds_a_better_front_than_chance() -> None:
    def volume(sampler: BaseSampler) -> float:
        study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
        study.optimize(objective, n_trials=8)
        kept = [t.values for t in study.trials if max(t.constraints.values()) <= 0]
        return hypervolume(np.array(kept).reshape(-1, 2) * [-1, 1], np.array([-0.3, 20.0]))

    pairs = [
        (volume(EHVISampler(seed=seed, startup_trials=3, space=space)), volume(RandomSampler(seed=seed)))
        for seed in range(4)
    ]
    assert sum(ours > chance for ours, chance in pairs) >= 3
