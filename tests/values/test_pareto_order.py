"""Fronts and nets against definitions and hand-worked sets."""

from __future__ import annotations

import numpy as np
import pytest

from nas_compress.values.pareto import epsilon_net, fronts, place


def dominates(a: np.ndarray, b: np.ndarray) -> bool:
    return bool((a <= b).all() and (a < b).any())


def test_fronts_of_a_hand_worked_set() -> None:
    costs = np.array([[1.0, 4.0], [2.0, 2.0], [4.0, 1.0], [2.0, 5.0], [3.0, 3.0], [5.0, 5.0], [2.0, 2.0]])
    assert fronts(costs).tolist() == [0, 0, 0, 1, 1, 2, 0]


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_a_front_is_what_no_later_row_dominates(columns: int) -> None:
    costs = np.random.default_rng(columns).integers(0, 6, (60, columns)).astype(float)
    number = fronts(costs)
    for row in range(60):
        above = [number[other] for other in range(60) if dominates(costs[other], costs[row])]
        assert number[row] == (max(above) + 1 if above else 0)


def test_a_net_begins_with_the_best_and_goes_to_the_farthest() -> None:
    # ranks 0, .25, .5, .75, 1 in both columns: from the first to the last, then the middle, then the rest
    costs = np.array([[1.0, 500.0], [2.0, 400.0], [3.0, 30.0], [4.0, 20.0], [5.0, 10.0]])
    assert epsilon_net(costs).tolist() == [0, 4, 2, 1, 3]
    assert epsilon_net(costs * [1.0, 1e9]).tolist() == [0, 4, 2, 1, 3], "units do not matter"


def test_every_beginning_of_a_net_takes_the_farthest_row() -> None:
    costs = np.random.default_rng(0).permuted(np.tile(np.linspace(0, 1, 30), (3, 1)), axis=1).T  # ranks as they stand
    order = epsilon_net(costs)
    assert sorted(order.tolist()) == list(range(30))
    for count in range(1, 29):
        near = np.linalg.norm(costs[order[count:], None] - costs[None, order[:count]], axis=2).min(axis=1)
        assert near[0] == pytest.approx(near.max())


def test_equal_rows_all_get_a_place() -> None:
    costs = np.ones((4, 2))
    assert sorted(place(costs, row) for row in range(4)) == [0, 1, 2, 3]


def test_places_put_better_fronts_first() -> None:
    costs = np.random.default_rng(1).random((40, 3))
    number, places = fronts(costs), [place(costs, row) for row in range(40)]
    assert sorted(places) == list(range(40))
    assert [number[row] for row in np.argsort(places)] == sorted(number.tolist())
