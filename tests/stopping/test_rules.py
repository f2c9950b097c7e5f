"""The rules on curves whose right verdict follows from their definition."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from nas_compress.errors import RequestError
from nas_compress.stopping.behind import Behind
from nas_compress.stopping.curve import Curve
from nas_compress.stopping.dominated import Dominated
from nas_compress.stopping.moasha import MoAsha, geometric_rungs
from nas_compress.stopping.rules import NoRule, Overruled
from nas_compress.stopping.table import RULES, make_rule

RUNGS = MoAsha(rungs=(1 / 9, 1 / 3), eta=3)
BEHIND = Behind(rungs=(1 / 9, 1 / 3))


def at_first_rung(*costs: float) -> Curve:
    return Curve(known=tuple(costs[1:]), planned=9, points=((1, costs[0]),))


def random_rung(seed: int, size: int = 19) -> list[Curve]:
    return [at_first_rung(*row) for row in np.random.default_rng(seed).random((size, 3))]


@pytest.mark.parametrize("seed", range(30))
def test_a_newcomer_that_dominates_its_rung_is_never_stopped(seed: int) -> None:
    for rule in (RUNGS, BEHIND):
        assert rule.verdict(at_first_rung(-0.1, -0.1, -0.1), random_rung(seed)) is None


@pytest.mark.parametrize("seed", range(30))
def test_a_newcomer_that_its_whole_rung_dominates_is_always_stopped(seed: int) -> None:
    reason = RUNGS.verdict(at_first_rung(1.1, 1.1, 1.1), random_rung(seed))
    assert reason == "moasha: 19 of 20 trials are better at step 1 of 9"


def test_the_first_at_a_rung_goes_on() -> None:
    assert RUNGS.verdict(at_first_rung(1.0, 1.0, 1.0), []) is None
    assert BEHIND.verdict(at_first_rung(1.0, 1.0, 1.0), []) is None


def test_behind_stops_what_another_dominates_at_the_same_rung() -> None:
    others = [at_first_rung(0.5, 2.0), at_first_rung(0.4, 3.0), at_first_rung(0.1, 9.0)]
    reason = BEHIND.verdict(at_first_rung(0.5, 3.0), others)
    assert reason == "behind: 2 of 3 other trials dominate it at step 1 of 9"
    assert BEHIND.verdict(at_first_rung(0.5, 2.0), others) is None, "an equal does not dominate"
    assert BEHIND.verdict(at_first_rung(9.0, 1.0), others) is None, "nobody is as small"
    assert BEHIND.verdict(at_first_rung(0.3, 4.0), others) is None, "better than all that are as small"
    later = [Curve(known=(2.0,), planned=9, points=((1, 0.9), (3, 0.0)))]
    assert BEHIND.verdict(at_first_rung(0.5, 2.0), later) is None, "it was worse then"


@pytest.mark.parametrize("seed", range(30))
def test_behind_never_stops_a_non_dominated_newcomer_and_always_a_dominated_one(seed: int) -> None:
    *others, newcomer = random_rung(seed, 20)
    row = np.array(newcomer.vector(1))
    beaten = any((np.array(other.vector(1)) <= row).all() for other in others)
    assert (BEHIND.verdict(newcomer, others) is not None) == beaten


def test_one_part_in_eta_goes_on() -> None:
    """With one objective the order is plain: of 9 trials the places 0, 1, 2 and, at exactly 1 / 3, 3 go on."""
    others = [at_first_rung(float(cost)) for cost in range(0, 16, 2)]
    stopped = [RUNGS.verdict(at_first_rung(float(cost)), others) is not None for cost in range(-1, 16, 2)]
    assert stopped == [False, False, False, False, True, True, True, True, True]


def test_non_dominated_newcomers_go_on_far_more_often_than_dominated_ones() -> None:
    verdicts: dict[bool, list[bool]] = {True: [], False: []}
    for seed in range(300):
        *others, newcomer = random_rung(seed, 20)
        row = np.array(newcomer.vector(1))
        beaten = any((np.array(other.vector(1)) <= row).all() for other in others)
        verdicts[beaten].append(RUNGS.verdict(newcomer, others) is not None)
    assert np.mean(verdicts[False]) < 0.3
    assert np.mean(verdicts[True]) > 0.8


def test_only_trials_that_reached_the_rung_are_compared_with() -> None:
    later = Curve(known=(1.0, 1.0), planned=9, points=((1, 1.0), (3, 0.5)))
    short = [at_first_rung(0.0, 0.0, 0.0) for _ in range(10)]
    assert RUNGS.verdict(later, short) is None, "nobody else was at step 3"
    assert RUNGS.verdict(later.until(1), short) is not None


def test_a_rung_is_the_same_part_of_every_training() -> None:
    longer = Curve(known=(0.0, 0.0), planned=27, points=((3, 0.0),))
    assert RUNGS.wants(3, 27) and not RUNGS.wants(1, 27)
    assert RUNGS.verdict(at_first_rung(1.0, 1.0, 1.0), [longer] * 5) is not None


def test_the_rungs_of_a_training() -> None:
    assert [step for step in range(1, 28) if MoAsha(rungs=(1 / 27, 3 / 27, 9 / 27)).wants(step, 27)] == [1, 3, 9, 27]
    for steps in range(1, 200):
        rungs = geometric_rungs(steps)
        assert list(rungs) == sorted(set(rungs)) and all(1 <= rung < steps for rung in rungs)
        assert bool(rungs) == (steps >= 3)


def finished(known: float, early: float, end: float) -> Curve:
    return Curve(known=(known,), planned=10, points=((2, early), (10, end)))


CHECKS = Dominated(risk=0.1, checks=(0.2,), at_least=10)
# ten finished trials improved by 0.1, 0.2, ... 1.0 after step 2; all end at cost 0 with a known cost of 1
HISTORY = [finished(1.0, gain / 10, 0.0) for gain in range(1, 11)]


def test_a_trial_is_stopped_where_even_its_lucky_end_is_dominated() -> None:
    def at(cost: float, known: float = 2.0) -> str | None:
        return CHECKS.verdict(Curve(known=(known,), planned=10, points=((2, cost),)), HISTORY)

    assert at(0.89) is None, "an end below 0 is within reach: the quantile 0.9 of the gains is 1.0"
    assert at(1.01) == "dominated: 10 finished trials dominate it even if it improves by 1 after step 2 of 10"
    assert at(1.01, known=0.5) is None, "nothing finished is as small"
    assert at(50.0, known=0.5) is None


def test_trainings_of_several_lengths_are_compared_at_the_same_look() -> None:
    """A newcomer of 14 epochs looks after 1, 3, 4, 7 and 10 of them, a training of 42 after 4, 8, 13, 21 and 29."""
    rule = Dominated(risk=0.5)
    long = Curve(known=(1.0,), planned=42)
    steps = [step for step in range(1, 43) if rule.wants(step, 42)]
    assert steps == [4, 8, 13, 21, 29, 42]
    history = [replace(long, points=tuple((step, 1.0 - step / 42) for step in steps))] * 10
    for step in (1, 3, 4, 7, 10):
        hopeless = Curve(known=(2.0,), planned=14, points=((step, 5.0),))
        assert rule.wants(step, 14) and rule.verdict(hopeless, history) is not None
    assert rule.verdict(Curve(known=(2.0,), planned=14, points=((2, 5.0),)), history) is None, "not one of its looks"


def test_more_risk_stops_sooner() -> None:
    newcomer = Curve(known=(2.0,), planned=10, points=((2, 0.7),))
    assert Dominated(risk=0.1, checks=(0.2,)).verdict(newcomer, HISTORY) is None
    assert Dominated(risk=0.5, checks=(0.2,)).verdict(newcomer, HISTORY) is not None


def test_a_forecast_needs_finished_trials() -> None:
    newcomer = Curve(known=(2.0,), planned=10, points=((2, 50.0),))
    assert CHECKS.verdict(newcomer, HISTORY[:9]) is None
    cut = [curve.until(2) for curve in HISTORY]
    assert CHECKS.verdict(newcomer, cut) is None, "stopped trials dominate nobody"
    assert CHECKS.verdict(newcomer, [*HISTORY[:9], *cut]) is None
    assert CHECKS.verdict(newcomer, HISTORY) is not None
    assert CHECKS.verdict(newcomer, [finished(1.0, math.inf, math.inf), *HISTORY]) is not None, "one diverged"


def test_how_often_the_forecast_errs_is_about_the_risk() -> None:
    """Gains from one distribution: a newcomer whose truth is non-dominated is stopped about as often as `risk`."""
    random = np.random.default_rng(0)
    wrong = 0
    for _ in range(400):
        history = [finished(1.0, early, early - gain) for early, gain in random.random((200, 2))]
        best = min(curve.points[-1][1] for curve in history)
        early = best + random.random()  # ends at or below the best only with the luck of the largest gains
        gain = random.random()
        newcomer = Curve(known=(1.0,), planned=10, points=((2, early),))
        wrong += early - gain < best and CHECKS.verdict(newcomer, history) is not None
    assert wrong / 400 < 0.1


@pytest.mark.parametrize("name", RULES)
def test_every_rule_lets_the_end_of_training_pass(name: str) -> None:
    rule = make_rule(name, steps=9)
    end = Curve(known=(9.0,), planned=9, points=((1, 9.0), (9, 9.0)))
    better = [Curve(known=(0.0,), planned=9, points=((1, 0.0), (9, 0.0)))] * 20
    assert rule.verdict(end, better) is None


def test_an_overruled_rule_looks_and_stops_nothing() -> None:
    rule = Overruled(rule=RUNGS)
    assert [rule.wants(step, 9) for step in range(1, 10)] == [RUNGS.wants(step, 9) for step in range(1, 10)]
    assert rule.verdict(at_first_rung(1.1, 1.1, 1.1), random_rung(0)) is None


def test_too_short_a_training_has_no_rungs() -> None:
    for name, kind in (("moasha", MoAsha), ("behind", Behind)):
        assert isinstance(make_rule(name, steps=2), NoRule)
        assert isinstance(make_rule(name, steps=3), kind)


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("moash", {}, "a stopping rule must be a known name, but got 'moash' (here); did you mean 'moasha'?"),
        ("behind", {"rungs": [3, 1]}, "rungs must rise between 0 and the end of training"),
        ("moasha", {"rungs": []}, "rungs must be one or more steps before the end of training, but got none"),
        ("moasha", {"rungs": [3, 9]}, "1 <= rungs < 9 (the end of training) must hold, but got rungs=[3, 9]"),
        ("moasha", {"rungs": [3, 1]}, "rungs must rise between 0 and the end of training"),
        ("moasha", {"eta": 1}, "eta >= 2 must hold, but got eta=1"),
        ("dominated", {"risk": 0.0}, "0 < risk <= 0.5 must hold, but got risk=0.0"),
        ("moasha", {"steps": 0}, "steps >= 1 must hold, but got steps=0"),
    ],
)
def test_bad_settings_are_refused(name: str, settings: dict[str, object], words: str) -> None:
    with pytest.raises(RequestError) as refused:
        make_rule(name, where="here", **{"steps": 9, **settings})  # type: ignore[arg-type]
    assert words in str(refused.value)
