"""The TPE sampler: which trials it learns from, and its densities against definitions."""

from __future__ import annotations

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import TrialState, create_trial

from nas_compress.search.samplers.parzen import best_draw, choice_probabilities, kernels
from nas_compress.search.samplers.tpe import IndependentTPESampler
from quiet_optuna import quiet as quiet

CHOICE = CategoricalDistribution(("a", "b", "c"))


def test_choice_probabilities_of_a_hand_worked_case() -> None:
    """Two a's and one b: kernels (onehot + 1/4) / (1 + 3/4), and a uniform prior as a fourth one."""
    found = choice_probabilities(np.array([0, 0, 1]), np.ones(3), 3)
    hit, miss, prior = (1 + 1 / 4) / (7 / 4), (1 / 4) / (7 / 4), 1 / 3
    assert found == pytest.approx(np.array([2 * hit + miss + prior, hit + 2 * miss + prior, 3 * miss + prior]) / 4)


@pytest.mark.parametrize("seed", range(3))
def test_densities_are_densities(seed: int) -> None:
    random = np.random.default_rng(seed)
    mixture = kernels(random.uniform(2, 5, 30), random.random(30), low=2.0, high=5.0)
    places = np.linspace(2, 5, 20001)
    assert np.trapezoid(mixture.density(places), places) == pytest.approx(1, abs=1e-4)
    cells = mixture.between(np.linspace(2, 5, 8))
    assert cells.sum() == pytest.approx(1) and (cells > 0).all()
    draws = mixture.draw(20000, random)
    assert np.histogram(draws, np.linspace(2, 5, 8))[0] / 20000 == pytest.approx(cells, abs=0.02)


def test_equal_observations_weigh_as_often_as_they_were_seen() -> None:
    repeated = kernels(np.array([1.0, 3.0, 3.0, 3.0]), np.ones(4), low=0.0, high=4.0)
    near_three, near_one = repeated.density(np.array([3.0, 1.0]))
    assert len(repeated.means) < 5 and near_three > 2 * near_one


@pytest.mark.parametrize(
    ("distribution", "good", "bad", "best"),
    [
        (CHOICE, [1, 1, 1, 1], [0, 2, 0, 2, 0, 2], {1}),
        (IntDistribution(1, 9, step=2), [7, 7, 7, 7], [1, 3, 5, 9, 1, 3], {7}),
        (IntDistribution(1, 1024, log=True), [900, 900, 900], [1, 2, 4, 8, 16], set(range(300, 1025))),
        (FloatDistribution(0.0, 1.0, step=0.25), [0.5] * 4, [0.0, 1.0, 0.25, 0.75], {0.5}),
    ],
)
def test_the_best_draw_lies_where_the_good_ones_are(
    distribution: optuna.distributions.BaseDistribution, good: list[float], bad: list[float], best: set[float]
) -> None:
    for seed in range(20):
        random = np.random.default_rng(seed)
        value = best_draw(distribution, np.array(good), np.array(bad), np.ones(len(bad)), draws=24, random=random)
        assert distribution.to_external_repr(value) in best | {CHOICE.choices[int(v)] for v in best if v < 3}


def told(
    choice: str, values: list[float] | None, state: TrialState = TrialState.COMPLETE, excess: float = 0.0
) -> object:
    return create_trial(
        params={"x": choice},
        distributions={"x": CHOICE},
        values=values if state == TrialState.COMPLETE else None,
        state=state,
        constraints={"size": excess},
    )


def proposals(*trials: object, count: int = 40) -> list[str]:
    study = optuna.create_study(directions=["maximize", "minimize"])
    study.add_trials(trials)  # type: ignore[arg-type]
    found = []
    for seed in range(count):
        study.sampler = IndependentTPESampler(seed=seed, startup_trials=5)
        trial = study.ask({"x": CHOICE})
        found.append(trial.params["x"])
        study.tell(trial, state=TrialState.FAIL)
    return found


def test_the_best_front_is_proposed_and_directions_are_kept() -> None:
    good = [told("b", [0.9, 1.0]), told("b", [0.8, 0.5])]
    bad = [told(choice, [0.1, 3.0 + number]) for number, choice in enumerate("acacacacacacacacac")]
    assert set(proposals(*good, *bad)) == {"b"}


def test_an_infeasible_trial_is_never_good_while_feasible_ones_are_there() -> None:
    broken = [told("b", [0.9, 1.0 + number], excess=0.5) for number in range(4)]
    kept = [told("a", [0.5, 2.0]), told("a", [0.4, 1.5])] + [told("c", [0.1, 5.0 + number]) for number in range(12)]
    assert "b" not in proposals(*broken, *kept)


def test_failed_trials_teach_nothing_and_running_ones_are_avoided() -> None:
    failed = [told("a", None, TrialState.FAIL) for _ in range(50)]
    assert len(set(proposals(*failed))) == 3, "still at random"
    known = [told("a", [0.9, 1.0]), told("b", [0.9, 1.0]), *(told("c", [0.1, 3.0 + number]) for number in range(10))]
    assert set(proposals(*known)) == {"a"}
    assert set(proposals(*known, told("a", None, TrialState.RUNNING))) == {"b"}


def test_a_repeat_counts_once_and_many_of_them_loosen_the_proposals() -> None:
    good = [told("b", [0.9, 1.0]), told("b", [0.8, 0.5])]
    bad = [told(choice, [0.1, 3.0 + number]) for number, choice in enumerate("acacacacacacacacac")]
    assert set(proposals(*good, bad[0], bad[0], bad[0], *bad)) == {"b"}, "three repeats, long ago"
    assert proposals(*good, *bad) == proposals(*good, *bad[:10], bad[3], *bad[10:])
    loose = proposals(*good, *bad, *good * 3)
    assert set(loose) == {"a", "b", "c"} and loose.count("b") > 20, "one draw each, from the density of the good ones"
    assert proposals(*good, *bad, *good * 4).count("b") < 25, "at random"


def problem(trial: optuna.Trial) -> tuple[float, float]:
    width = trial.suggest_int("width", 1, 32)
    depth = trial.suggest_int("depth", 1, 4)
    rate = trial.suggest_float("rate", 1e-4, 1.0, log=True)
    kind = trial.suggest_categorical("kind", ["good", "fair", "bad"])
    if kind == "bad":
        trial.suggest_float("only_of_bad", 0, 1)
    miss = abs(np.log10(rate) + 2) / 2 + {"good": 0.0, "fair": 0.3, "bad": 0.6}[kind]
    return 1 - 1 / (width * depth) - miss, width * depth * (1 + miss)


def test_it_finds_a_better_front_than_chance() -> None:
    def volume(sampler: BaseSampler) -> float:
        from nas_compress.values.pareto import hypervolume

        study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
        study.optimize(problem, n_trials=60)
        return hypervolume(np.array([trial.values for trial in study.trials]) * [-1, 1], np.array([0.5, 128.0]))

    pairs = [
        (volume(IndependentTPESampler(seed=seed, startup_trials=10)), volume(RandomSampler(seed=seed)))
        for seed in range(8)
    ]
    assert sum(ours > chance for ours, chance in pairs) >= 7
