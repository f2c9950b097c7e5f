"""What every search space that comes with the package promises."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from random import Random

import optuna
import pytest

from nas_compress.config.search_space import Space, load_space, sample_space
from nas_compress.config.shipped import shipped_folder, shipped_names
from nas_compress.config.suggest import Choice, RandomWalk
from nas_compress.models.families import FAMILIES
from nas_compress.pruning.importance_criteria import CRITERIA
from nas_compress.trial.validity import check_candidate
from nas_compress.values.candidate import Candidate

NAMES = shipped_names("search_spaces")
every_space = pytest.mark.parametrize("name", NAMES)
LARGE = ("distillation", "vit", "mixed_cnn", "strided_cnn")
every_point_of_each = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in LARGE else name for name in NAMES]
)


class Scripted:
    """A trial that takes the ways it is told, the first one after that, and notes how many there were."""

    def __init__(self, script: Sequence[int]) -> None:
        self.script = list(script)
        self.taken: list[tuple[int, int]] = []
        self.params: dict[str, object] = {}

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return self._take(name, range(low, high + 1, step))

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        if step is None:
            pytest.fail(f"{name} has no end of ways")
        return self._take(name, [low + step * number for number in range(round((high - low) / step) + 1)])

    def suggest_categorical(self, name: str, choices: Sequence[Choice]) -> Choice:
        return self._take(name, choices)

    def _take(self, name: str, choices: Sequence[Choice]) -> Choice:
        assert name not in self.params, f"{name} is asked for twice"
        way = self.script[len(self.taken)] if len(self.taken) < len(self.script) else 0
        self.taken.append((way, len(choices)))
        self.params[name] = choices[way]
        return choices[way]


def every_point(space: Space) -> Iterator[Candidate]:
    """All leaves of the tree of choices, each once: count like an odometer whose wheels depend on those before."""
    script: list[int] = []
    while True:
        trial = Scripted(script)
        yield space.suggest(trial)
        taken = trial.taken
        while taken and taken[-1][0] + 1 == taken[-1][1]:
            taken.pop()
        if not taken:
            return
        script = [way for way, _ in taken]
        script[-1] += 1


def load(name: str) -> Space:
    folder = shipped_folder("search_spaces")
    return load_space(name, folder=folder, shipped=folder)


@functools.cache
def points(name: str) -> tuple[Candidate, ...]:
    return tuple(every_point(load(name)))


def said_size(space: Space) -> int:
    found = re.search(r"\(([\d,]+) points\)", space.summary)
    assert found, "the first line of the docstring says how many points there are"
    return int(found[1].replace(",", ""))


@every_point_of_each
def test_the_first_line_tells_the_exact_size(name: str) -> None:
    assert len(points(name)) == said_size(load(name))


def test_the_small_images_are_counted_by_hand() -> None:
    assert len(points("cnn")) == 2 * 2**3 * 4 * (1 + 3 * 3) * 3 * (2 + 9) == 21_120
    assert len(points("low_bit_cnn")) == 2 * 2**3 * 4 * (1 + 3 * 3) * 5 * (2 + 9) == 35_200


@every_point_of_each
def test_no_two_ways_lead_to_one_candidate(name: str) -> None:
    assert len(set(points(name))) == len(points(name))


@every_point_of_each
def test_every_point_names_only_what_is_known(name: str) -> None:
    for candidate in points(name):
        check_candidate(candidate)
        assert len(candidate.shape.depths) == len(FAMILIES[candidate.shape.family].base_widths)
    assert {candidate.pruning.criterion for candidate in points(name)} <= set(CRITERIA)


@every_space
def test_the_estimate_of_the_size_is_near(name: str) -> None:
    size = said_size(load(name))
    sampled = sample_space(load(name), draws=4000, seed=1)
    assert sampled.points == pytest.approx(size, rel=0.08)
    assert 0 < len(sampled.candidates) <= 4000
    assert len(set(sampled.candidates)) == len(sampled.candidates)
    one, again, other = (sample_space(load(name), draws=400, seed=seed) for seed in (1, 1, 2))
    assert one == again != other


@every_space
def test_a_candidate_is_rebuilt_from_its_parameters(name: str) -> None:
    space, random = load(name), Random(3)
    for _ in range(50):
        walk = RandomWalk(random)
        candidate = space.suggest(walk)
        assert space.suggest(optuna.trial.FixedTrial(walk.params)) == candidate
        assert Candidate.from_dict(candidate.to_dict()) == candidate


@every_point_of_each
def test_optuna_walks_the_space(name: str) -> None:
    space = load(name)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    found = set()
    for _ in range(30):
        trial = study.ask()
        candidate = space.suggest(trial)
        assert space.suggest(optuna.trial.FixedTrial(trial.params)) == candidate
        found.add(candidate)
        study.tell(trial, 0.0)
    assert len(found) > min(20, len(points(name)) / 3) and found <= set(points(name))
