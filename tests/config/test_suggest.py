import math
from random import Random

import pytest

from nas_compress.config.suggest import RandomWalk


def test_ways_multiply_and_draws_are_kept() -> None:
    walk = RandomWalk(Random(0))
    depth = walk.suggest_int("depth", 1, 4)
    assert walk.suggest_int("depth", 1, 4) == depth  # asked again: the same answer, no new way
    walk.suggest_int("percent", 0, 75, step=25)
    walk.suggest_categorical("kind", ["a", "b", "c"])
    walk.suggest_float("ratio", 0.0, 0.5, step=0.1)
    assert walk.ways == 4 * 4 * 3 * 6
    assert list(walk.params) == ["depth", "percent", "kind", "ratio"]


def test_all_values_are_reached_and_none_beyond() -> None:
    walks = [RandomWalk(Random(seed)) for seed in range(300)]
    assert {walk.suggest_int("n", 2, 9, step=3) for walk in walks} == {2, 5, 8}
    assert {round(walk.suggest_float("x", 0.1, 0.3, step=0.1), 9) for walk in walks} == {0.1, 0.2, 0.3}
    assert {walk.suggest_categorical("c", [None, True]) for walk in walks} == {None, True}


def test_an_interval_without_steps_has_no_end_of_ways() -> None:
    walks = [RandomWalk(Random(seed)) for seed in range(300)]
    plain = [walk.suggest_float("x", -1.0, 1.0) for walk in walks]
    log = [walk.suggest_float("y", 1e-4, 1.0, log=True) for walk in walks]
    assert walks[0].ways == math.inf
    assert min(plain) >= -1 and max(plain) <= 1 and min(log) >= 1e-4 and max(log) <= 1
    assert sorted(log)[150] == pytest.approx(1e-2, rel=0.7)  # half of them below the geometric mean
