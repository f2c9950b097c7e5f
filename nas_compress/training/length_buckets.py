"""Order of an epoch in which the samples of a batch have similar lengths."""

from __future__ import annotations

import torch
from torch import Tensor

POOL = 16
"""Batches whose samples are sorted together. More save no more padding and mix the samples less."""


def bucketed(order: Tensor, lengths: Tensor, *, batch_size: int, shuffle: torch.Generator) -> Tensor:
    """Return a permutation of an epoch's order with batches of samples of similar lengths.

    Samples are sorted by length within pools of POOL batches, and all batches are shuffled. The incomplete last batch
    keeps its samples.

    order: of the epoch, (N,). lengths: of each sample, (samples,). shuffle: draws the order of the batches.

    >>> found = bucketed(torch.arange(4), torch.tensor([5, 1, 4, 2]), batch_size=2, shuffle=torch.Generator())
    >>> sorted(sorted(batch) for batch in found.reshape(2, 2).tolist())
    [[0, 2], [1, 3]]
    """
    whole = len(order) // batch_size * batch_size
    pools = torch.split(order[:whole], POOL * batch_size)
    batches = torch.cat([pool[lengths[pool].argsort(stable=True)] for pool in pools]).reshape(-1, batch_size)
    drawn = torch.randperm(len(batches), generator=shuffle).to(order.device)
    return torch.cat([batches[drawn].flatten(), order[whole:]])
