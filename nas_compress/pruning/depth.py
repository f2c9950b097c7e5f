"""Choice of the teacher's residual blocks and transformer layers for a student with fewer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import nn

from nas_compress.errors import require_known
from nas_compress.models.family import AnyFamily
from nas_compress.pruning.importance_criteria import LossSamples
from nas_compress.tasks.batch import count

KEPT_BLOCKS = {
    "first": "keep the first blocks of each stage, next to the input (Sajjad et al. 2020, arXiv 2004.03844)",
    "last": "keep the last blocks of each stage",
    "alternate": "keep block floor(i n / k) of n for i below k: 0, 2, 4 of six (Sajjad et al. 2020, arXiv 2004.03844)",
    "spread": "also the last block: 0, 2, 4, 7, 9, 11 of twelve, as DistilBERT (Sanh et al. 2019, arXiv 1910.01108)",
    "importance": "keep the blocks whose removal raises the teacher's loss most (Veit et al. 2016, arXiv 1605.06431)",
}
"""Summaries of the choices by name."""

Kept = tuple[tuple[int, ...], ...]
"""Numbers of the blocks to keep in each stage, rising."""


def removable_blocks(network: nn.Module, family: AnyFamily) -> tuple[tuple[bool, ...], ...]:
    """Return for each block of each stage if it can be removed as a whole."""
    return tuple(tuple(map(family.is_removable, stage)) for stage in family.blocks(network))


def choose_blocks(
    removable: Sequence[Sequence[bool]],
    depths: Sequence[int],
    *,
    kept: str,
    importance: Sequence[Sequence[float]] = (),
) -> Kept:
    """Choose the blocks of each stage to keep, at most `depths`; blocks that change the shape are kept first.

    >>> choose_blocks([[False, True, True]], [2], kept="last")
    ((0, 2),)
    >>> choose_blocks([[True] * 4], [2], kept="alternate")
    ((0, 2),)
    """
    require_known("kept_blocks", kept, KEPT_BLOCKS)
    chosen = []
    for stage, (free, depth) in enumerate(zip(removable, depths, strict=True)):
        worth: Sequence[float] = {
            "first": [-number for number in range(len(free))],
            "last": list(range(len(free))),
            "importance": importance[stage] if importance else [0.0] * len(free),
        }.get(kept, [float(number in _evenly(kept, len(free), depth)) for number in range(len(free))])
        order = sorted(range(len(free)), key=lambda number: (free[number], -worth[number], number))
        chosen.append(tuple(sorted(order[: min(depth, len(free))])))
    return tuple(chosen)


def _evenly(kept: str, blocks: int, depth: int) -> set[int]:
    """Return `depth` numbers of blocks at equal distances."""
    if kept == "spread" and depth > 1:
        return {math.floor(number * (blocks - 1) / (depth - 1) + 0.5) for number in range(depth)}
    return {number * blocks // depth for number in range(depth)}


def without_blocks(network: nn.Module, family: AnyFamily, kept: Kept) -> nn.Module:
    """Return a copy of the network with the kept blocks only."""
    copy = deepcopy(network)
    for stage, numbers in zip(family.blocks(copy), kept, strict=True):
        for number in reversed(range(len(stage))):
            if number not in numbers:
                del stage[number]
    return copy


@torch.no_grad()
def block_importance(network: nn.Module, family: AnyFamily, samples: LossSamples) -> tuple[tuple[float, ...], ...]:
    """Return the rise of the mean loss without each block; 0.0 for blocks that must stay.

    Veit et al. 2016, arXiv 1605.06431, section 4.1: blocks of a trained network deleted one by one.
    """
    removable = removable_blocks(network, family)
    whole, everything = _loss(network, samples), [tuple(range(len(stage))) for stage in removable]
    found = []
    for stage, free in enumerate(removable):
        rises = [0.0] * len(free)
        for number in (number for number, may_go in enumerate(free) if may_go):
            kept = list(everything)
            kept[stage] = tuple(other for other in everything[stage] if other != number)
            rises[number] = _loss(without_blocks(network, family, tuple(kept)), samples) - whole
        found.append(tuple(rises))
    return tuple(found)


def _loss(network: nn.Module, samples: LossSamples) -> float:
    network.eval()
    sizes = [count(inputs) for inputs, _ in samples.batches]
    losses = [
        samples.loss(network, inputs, targets) * size
        for (inputs, targets), size in zip(samples.batches, sizes, strict=True)
    ]
    return float(torch.stack(losses).sum() / sum(sizes))
