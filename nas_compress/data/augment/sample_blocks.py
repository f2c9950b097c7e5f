"""Blocks of samples that a function of the user changes together."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from nas_compress.data.augment.user_function import BLOCK


@dataclass(frozen=True, kw_only=True, eq=False)
class Blocks:
    """Blocks of 32 consecutive samples of a random order (N,); the last one may be shorter.

    >>> blocks = Blocks(order=torch.tensor([2, 0, 1]))
    >>> blocks.place.tolist(), blocks.next.tolist()
    ([1, 2, 0], [1, 2, 0])
    """

    order: Tensor

    @cached_property
    def place(self) -> Tensor:
        """Place of each sample in the order."""
        return self.order.argsort()

    @cached_property
    def next(self) -> Tensor:
        """The next sample of the block for each sample, and the first one for the last."""
        begin = self.place // BLOCK * BLOCK
        length = (len(self.order) - begin).clamp(max=BLOCK)
        return self.order[begin + (self.place - begin + 1) % length]

    def members(self, number: int) -> Tensor:
        """Return the samples of a block."""
        return self.order[number * BLOCK : (number + 1) * BLOCK]

    def shuffled(self, shuffle: torch.Generator | None) -> Tensor:
        """Return all samples, block after block in random order."""
        if shuffle is None:
            return self.order
        pieces = torch.split(self.order, BLOCK)
        return torch.cat([pieces[number] for number in torch.randperm(len(pieces), generator=shuffle).tolist()])

    def gathered(self, drawn: Tensor, *, at_once: int, shuffle: torch.Generator) -> Tensor:
        """Return drawn samples in an order that needs at most `at_once` blocks at the same time.

        drawn: samples in random order, with repetition. The order stays as it is if there are no more blocks.
        """
        count = -(-len(self.order) // BLOCK)
        if count <= at_once:
            return drawn
        part = torch.randperm(count, generator=shuffle) // max(1, at_once)
        return drawn[part[self.place.cpu()[drawn] // BLOCK].argsort(stable=True)]


def block_seed(seed: int, view: int, number: int) -> int:
    """Return a seed of 63 bits for one block of one view."""
    (drawn,) = np.random.SeedSequence([seed, view, number]).generate_state(1, np.uint64).tolist()
    return int(drawn) >> 1
