import numpy as np
import pytest

from nas_compress.data.stratified_split import (
    stratified_split,
    stratified_subset,
    validation_and_train,
    validation_and_train_of_groups,
)
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


def test_groups_stay_whole_and_classes_keep_their_share() -> None:
    chance = np.random.default_rng(0)
    groups = chance.integers(0, 40, 1000)
    labels = chance.integers(0, 3, 1000)
    validation, train = validation_and_train_of_groups(labels, groups.astype(str), seed=1)
    assert not set(groups[validation]) & set(groups[train])
    assert sorted([*validation, *train]) == list(range(1000))
    shares = np.bincount(labels[validation]) / np.bincount(labels)
    assert shares.tolist() == pytest.approx([0.15] * 3, abs=0.05)
    again, _ = validation_and_train_of_groups(labels, groups.astype(str), seed=1)
    other, _ = validation_and_train_of_groups(labels, groups.astype(str), seed=2)
    assert again.tolist() == validation.tolist() != other.tolist()


def test_two_large_groups_are_divided_and_one_is_refused() -> None:
    validation, train = validation_and_train_of_groups(np.zeros(10, int), np.array([5] * 6 + [7] * 4), seed=0)
    assert validation.tolist() == [6, 7, 8, 9] and train.tolist() == [0, 1, 2, 3, 4, 5]
    with pytest.raises(RequestError, match="at least 2 groups to draw a validation split, but got 1"):
        validation_and_train_of_groups(np.zeros(3, int), np.zeros(3, int), seed=0)


def test_a_class_with_two_samples_has_one_in_each_split() -> None:
    labels = np.array([0] * 50 + [1] * 2 + [2] * 48)
    validation, train = validation_and_train(labels, seed=0)
    assert np.bincount(labels[validation]).tolist() == [8, 1, 7] and len(train) == 84
    assert sorted([*validation, *train]) == list(range(100))
