"""Batches of token ids with samples of similar lengths."""

from __future__ import annotations

import torch
from torch import Tensor

from nas_compress.tasks.batch import by_length, lengths_of, one_sample, token_lengths, unpadded
from nas_compress.training.length_buckets import POOL, bucketed
from nas_compress.values.signature import Lengths, token_input

IDS = torch.tensor([[7, 7, 0, 0], [5, 0, 0, 0], [4, 4, 4, 0]], dtype=torch.int32)


def drawn(samples: int, batch: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """An order of an epoch, the lengths of the samples, and the order with buckets."""
    shuffle = torch.Generator().manual_seed(seed)
    order, lengths = torch.randperm(samples, generator=shuffle), torch.arange(samples) % 40 + 1
    return order, lengths, bucketed(order, lengths, batch_size=batch, shuffle=shuffle)


def test_every_sample_is_drawn_once_in_an_epoch() -> None:
    for samples in (3, 64, 1003):
        _, _, found = drawn(samples, batch=8)
        assert sorted(found.tolist()) == list(range(samples))


def test_the_same_seed_gives_the_same_batches() -> None:
    assert torch.equal(drawn(500, 8)[2], drawn(500, 8)[2])
    assert not torch.equal(drawn(500, 8)[2], drawn(500, 8, seed=1)[2])


def test_batches_have_little_padding_and_are_in_no_order_of_length() -> None:
    order, lengths, found = drawn(1024, batch=8)

    def padding(each: Tensor) -> float:
        batches = lengths[each].reshape(-1, 8)
        return float((batches.amax(dim=1, keepdim=True) - batches).sum() / lengths.sum())

    assert padding(found) < 0.25 * padding(order)
    longest = lengths[found].reshape(-1, 8).amax(dim=1)
    assert not torch.equal(longest, longest.sort().values)


def test_samples_move_within_their_pool_only() -> None:
    order, _, found = drawn(8 * POOL * 3 + 5, batch=8)
    assert torch.equal(found[-5:], order[-5:]), "the incomplete batch keeps its samples"
    pools = [set(pool.tolist()) for pool in torch.split(order[:-5], 8 * POOL)]
    for batch in found[:-5].reshape(-1, 8).tolist():
        assert any(set(batch) <= pool for pool in pools)


def test_a_batch_is_cut_to_its_longest_sample() -> None:
    batch = {"input": IDS, "other": torch.ones(3, 9)}
    assert unpadded(batch, ["input"])["input"].tolist() == [[7, 7, 0], [5, 0, 0], [4, 4, 4]]
    assert unpadded(batch, ["input"])["other"].shape == (3, 9)
    assert unpadded(batch, []) is batch
    assert token_lengths(batch, ["input"]).tolist() == [2, 1, 3]


def test_results_of_sorted_samples_find_back_to_their_order() -> None:
    ordered, places = by_length({"input": IDS}, ["input"])
    assert token_lengths(ordered, ["input"]).tolist() == [1, 2, 3]
    assert ordered["input"].numpy()[places].tolist() == IDS.tolist()


def test_costs_are_those_of_the_lengths_of_the_samples() -> None:
    ids = torch.tril(torch.ones((32, 32), dtype=torch.int32)).numpy()  # lengths 1 to 32
    lengths = lengths_of(ids)
    assert lengths == Lengths(strata=tuple(range(2, 33, 2)), mean=16, p95=31)
    sample = one_sample({"input": IDS}, [token_input(9, lengths=lengths)])
    assert sample["input"].tolist() == [[1] * 16]
    assert one_sample({"input": IDS}, [token_input(9)])["input"].tolist() == [[7, 7, 0, 0]]
