import numpy as np
import pytest

from nas_compress.data.stratified_split import stratified_split, stratified_subset
from nas_compress.errors import RequestError

UNEVEN = np.repeat([0, 1, 2], [50, 30, 20])


def test_parts_are_disjoint_and_cover_everything() -> None:
    parts = stratified_split(UNEVEN, counts=(61, 20, 19), seed=3)
    assert [len(part) for part in parts] == [61, 20, 19]
    assert sorted(np.concatenate(parts)) == list(range(100))


def test_each_class_keeps_its_share() -> None:
    first, second = stratified_split(UNEVEN, counts=(60, 40), seed=0)
    assert np.bincount(UNEVEN[first]).tolist() == [30, 18, 12]
    assert np.bincount(UNEVEN[second]).tolist() == [20, 12, 8]


def test_shares_are_rounded_by_largest_remainder() -> None:
    # 7 of 10 with classes of 5, 3, 2: exact shares 3.5, 2.1, 1.4; the seventh sample goes to class 0.
    first, _ = stratified_split(np.repeat([0, 1, 2], [5, 3, 2]), counts=(7, 3), seed=0)
    assert np.bincount(np.repeat([0, 1, 2], [5, 3, 2])[first]).tolist() == [4, 2, 1]


def test_the_seed_decides() -> None:
    once, again, other = (stratified_split(UNEVEN, counts=(50, 50), seed=seed)[0] for seed in (1, 1, 2))
    assert once.tolist() == again.tolist() != other.tolist()


def test_indices_rise() -> None:
    for part in stratified_split(UNEVEN[::-1], counts=(60, 40), seed=0):
        assert np.all(np.diff(part) > 0)


@pytest.mark.parametrize("counts", [(60, 41), (101, -1), (50,)])
def test_counts_that_do_not_add_up_are_refused(counts: tuple[int, ...]) -> None:
    with pytest.raises(RequestError, match="must add up to 100 labels"):
        stratified_split(UNEVEN, counts=counts, seed=0)


@pytest.mark.parametrize("count", [3, 10, 57, 100])
def test_a_subset_has_the_count_and_every_class(count: int) -> None:
    chosen = stratified_subset(UNEVEN, count=count, seed=0)
    assert len(set(chosen.tolist())) == count
    assert set(UNEVEN[chosen]) == {0, 1, 2}


def test_a_rare_class_is_never_lost() -> None:
    labels = np.repeat([0, 1], [999, 1])
    assert 1 in labels[stratified_subset(labels, count=2, seed=0)]


@pytest.mark.parametrize("count", [2, 101])
def test_a_subset_of_impossible_size_is_refused(count: int) -> None:
    with pytest.raises(RequestError, match="3 <= count <= 100 must hold"):
        stratified_subset(UNEVEN, count=count, seed=0)
