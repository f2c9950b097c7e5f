"""Weights that share a few values: k-means over a layer's weights, and its values as integers (pure functions).

Deep Compression (Han et al. 2016, arXiv 1510.00149, section 3).
"""

from __future__ import annotations

import torch
from torch import Tensor

ITERATIONS = 40
"""Of k-means at most; it mostly stands still before."""

LARGEST = 127
"""The integer of the largest shared value: weights that share values are still computed in 8-bit integers."""


def cluster(weights: Tensor, bits: int, *, with_zero: bool = False) -> tuple[Tensor, Tensor]:
    """The 2^bits values (k,) that a layer's weights share, rising, and the place of each weight's own, int64.

    The values start evenly between the smallest and the largest weight (`linear initialisation`, which keeps large
    weights best) and move to the means of the weights nearest to them. Where weights are exactly 0, they do not pull
    at the means, and one value is 0: they stay pruned. `with_zero` asks for that value where none is 0 yet.

    >>> values, places = cluster(torch.tensor([[-1.0, -0.8, 0.0], [1.0, 0.9, 0.0]]), 2)
    >>> [round(value, 2) for value in values.tolist()], places.tolist()
    ([-0.9, 0.0, 0.0, 0.95], [[0, 0, 1], [3, 3, 1]])
    """
    flat = weights.detach().reshape(-1)
    kept = flat[flat != 0]
    pruned = with_zero or len(kept) < len(flat)
    count = 2**bits - int(pruned)
    values = _means(kept, count) if len(kept) else torch.zeros(count, dtype=flat.dtype, device=flat.device)
    if pruned:
        values = torch.cat([values, values.new_zeros(1)]).sort().values
    places = nearest(flat, values)
    if pruned:
        zero = int((values == 0).nonzero()[0])
        places = torch.where(flat == 0, zero, places)
    return values, places.view(weights.shape)


def nearest(weights: Tensor, values: Tensor) -> Tensor:
    """The place, int64, of the value nearest to each weight among `values` (k,), which rise."""
    return torch.bucketize(weights.contiguous(), (values[1:] + values[:-1]) / 2)


def shared_integers(values: Tensor) -> tuple[Tensor, Tensor]:
    """Shared values (k,) as int8 integers, and their positive scale (), so that the largest becomes 127.

    >>> shared_integers(torch.tensor([-2.54, 0.0, 0.014]))[0]
    tensor([-127,    0,    1], dtype=torch.int8)
    """
    largest = values.detach().abs().max()
    scale = torch.where(largest > torch.finfo(torch.float32).tiny, largest / LARGEST, 1.0)
    return (values.detach() / scale).round().to(torch.int8), scale


def _means(weights: Tensor, count: int) -> Tensor:
    """Lloyd's algorithm in one dimension; a value that no weight is nearest to stays where it is."""
    values = torch.linspace(float(weights.min()), float(weights.max()), count, device=weights.device)
    for _ in range(ITERATIONS):
        places = nearest(weights, values)
        counts = torch.bincount(places, minlength=count)
        sums = torch.bincount(places, weights=weights, minlength=count).to(values.dtype)
        moved = torch.where(counts > 0, sums / counts.clamp(min=1), values)
        if torch.equal(moved, values):
            break
        values = moved
    return values
