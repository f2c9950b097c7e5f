"""Cost lookups in a study: figures, and notes of lookups that crashed."""

from __future__ import annotations

import json
from random import Random

import optuna
import pytest

from nas_compress.config.suggest import Suggest
from nas_compress.search.samplers.cost_cache import MOST_DEATHS, PREFIX, KnownCosts
from nas_compress.search.samplers.observations import Known
from nas_compress.search.samplers.proposals import SpacePoint, draw
from quiet_optuna import quiet as quiet


def space(trial: Suggest) -> int:
    return trial.suggest_int("x", 0, 9)


@pytest.fixture
def point() -> SpacePoint:
    return draw(space, Random(0), {"x": 7})


def notes(study: optuna.Study) -> list[object]:
    return [json.loads(text)[1] for name, text in study.user_attrs.items() if name.startswith(PREFIX)]


def test_a_lookup_is_recorded_before_it_starts_and_done_once(point: SpacePoint) -> None:
    study, asked = optuna.create_study(directions=["maximize", "minimize"]), []

    def costs(candidate: object) -> Known:
        asked.append((candidate, notes(study)))
        return Known(values=(None, 2.0), constraints={"size": -1.0})

    KnownCosts(study, costs).look_up([point, point])
    assert asked == [(7, [1])]
    later = KnownCosts(study, costs)
    assert later.found[point.key][1] == Known(values=(None, 2.0), constraints={"size": -1.0})
    assert not later.lacks(point)


def test_lookups_of_a_candidate_stop_after_crashes(point: SpacePoint) -> None:
    study, begun = optuna.create_study(directions=["maximize", "minimize"]), []

    def dies(candidate: object) -> Known:
        begun.append(candidate)
        raise SystemError  # a kill leaves the note as it is; see below

    for death in range(MOST_DEATHS + 1):
        known = KnownCosts(study, dies)
        if death < MOST_DEATHS:
            assert known.lacks(point)
            with pytest.raises(SystemError):
                known.look_up([point])
            assert notes(study) == [death], "an error that is told is no death"
            (name,) = [name for name in study.user_attrs if name.startswith(PREFIX)]
            study.set_user_attr(name, json.dumps([{"x": 7}, death + 1]))  # as a kill leaves it
        else:
            known.look_up([point])
    assert len(begun) == MOST_DEATHS
    assert not known.lacks(point) and point.key not in known.found


@pytest.mark.parametrize(
    "text", ["", "[", "[1, 2, 3]", "[{}, [[1.0], {}]]", '[{"a": []}, null]', "[{}, [[NaN, 1], {}]]", '[{}, "x"]']
)
def test_costs_of_another_form_are_ignored(text: str) -> None:
    study = optuna.create_study(directions=["maximize", "minimize"])
    study.set_user_attr(f"{PREFIX}0", text)
    assert KnownCosts(study, None).count == 0
