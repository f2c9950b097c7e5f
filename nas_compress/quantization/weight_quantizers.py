"""Quantizers of a layer's weights in training: learned step, largest weight, sign, or shared values."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from nas_compress.quantization import arithmetic
from nas_compress.quantization.fake_quantization import binary_weights, learned_step, shared_values, straight_through

KMEANS_ITERATIONS = 40
"""Limit for k-means; it mostly converges before."""

LARGEST_SHARED = 127
"""Integer of the largest shared value, because layers with shared values compute in 8-bit integers."""


class WeightQuantizer(nn.Module, ABC):
    """Round the weights of one layer, (outputs, ...), with a scale per output channel."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = bits

    @abstractmethod
    def forward(self, weights: Tensor) -> Tensor:
        """Return the rounded weights, float32, with gradients for training."""

    @abstractmethod
    def scale(self, weights: Tensor) -> Tensor:
        """Return the scale (outputs,) of `forward` for these weights."""

    @property
    def codebook(self) -> Tensor | None:
        """Integers shared by the layer's weights, int8 (2^bits,); None: all integers of `bits` bits."""
        return None

    def integers(self, weights: Tensor) -> Tensor:
        """Return the int8 integers of `forward` for these weights."""
        return arithmetic.quantize_weights(weights, self.scale(weights), self.bits)


class LearnedStepWeight(WeightQuantizer):
    """Learned step size (Esser et al. 2020, arXiv 1902.08153), one per output channel.

    The logarithm of the step is learned: the step stays positive, and an optimiser with updates of equal size changes
    it by an equal fraction in every layer. It starts at the least squared rounding error of the given weights.
    """

    def __init__(self, weights: Tensor, bits: int) -> None:
        super().__init__(bits)
        self.log_step = nn.Parameter(arithmetic.nearest_scale(weights, bits).log())

    def forward(self, weights: Tensor) -> Tensor:
        """Return the rounded weights."""
        lowest, highest = arithmetic.weight_levels(self.bits)
        step = arithmetic.per_channel(self.log_step.exp(), weights.dim())
        gradient_scale = (weights[0].numel() * highest) ** -0.5
        return learned_step(weights, step, lowest=lowest, highest=highest, gradient_scale=gradient_scale)

    def scale(self, weights: Tensor) -> Tensor:
        """Return the learned steps."""
        return self.log_step.detach().exp()


class LargestWeight(WeightQuantizer):
    """Map each channel's largest weight to the largest integer at every step, with straight-through gradients."""

    def forward(self, weights: Tensor) -> Tensor:
        """Return the rounded weights."""
        lowest, highest = arithmetic.weight_levels(self.bits)
        step = arithmetic.per_channel(self.scale(weights), weights.dim())
        return straight_through(weights, step, lowest=lowest, highest=highest)

    def scale(self, weights: Tensor) -> Tensor:
        """Return the largest magnitudes over the largest integer, with magnitude 1 for a channel of zeros."""
        largest = weights.detach().flatten(1).abs().amax(dim=1)
        return torch.where(largest > 0, largest, 1.0) / arithmetic.weight_levels(self.bits)[1]


class SignWeight(WeightQuantizer):
    """The sign of each weight times its channel's mean magnitude (Rastegari et al. 2016, arXiv 1603.05279)."""

    def __init__(self) -> None:
        super().__init__(bits=1)

    def forward(self, weights: Tensor) -> Tensor:
        """Return the rounded weights."""
        return binary_weights(weights)

    def scale(self, weights: Tensor) -> Tensor:
        """Return the mean magnitudes."""
        return weights.detach().flatten(1).abs().mean(dim=1)


class SharedWeight(WeightQuantizer):
    """Learn 2^bits values shared by the layer's weights (Han et al. 2016, arXiv 1510.00149, section 3).

    K-means assigns the given weights to values once; only the values are trained. They are learned in units of their
    root mean square, so that an optimiser with updates of equal size changes them by an equal fraction in every layer.
    `forward` uses their 8-bit integers, as in the file. If one value is 0 (see `with_zero`), a weight has the value 0
    while it is 0 itself, so weights may be pruned later.
    """

    start: Tensor
    places: Tensor

    def __init__(self, weights: Tensor, bits: int, *, with_zero: bool = False) -> None:
        super().__init__(bits)
        values, places = cluster(weights, bits, with_zero=with_zero)
        self.register_buffer("start", values)
        self.register_buffer("places", places)
        self.moves = nn.Parameter(torch.zeros_like(values))

    @property
    def values(self) -> Tensor:
        """Learned values (2^bits,); a value 0 stays 0."""
        return self.start + self.moves * self.start.square().mean().sqrt() * (self.start != 0)

    def forward(self, weights: Tensor) -> Tensor:
        """Return the shared value of each weight; of the given weights only zeros matter."""
        values = self.values
        integers, scale = shared_integers(values)
        # straight-through gradients
        return shared_values(values + (integers * scale - values).detach(), self._places_of(weights))

    def scale(self, weights: Tensor) -> Tensor:
        """Return one scale for the layer, (outputs,)."""
        return shared_integers(self.values)[1].expand(len(weights))

    @property
    def codebook(self) -> Tensor | None:
        """Shared values as integers, int8 (2^bits,)."""
        return shared_integers(self.values)[0]

    def integers(self, weights: Tensor) -> Tensor:
        """Return the int8 integers of all weights."""
        return shared_integers(self.values)[0][self._places_of(weights)]

    def _places_of(self, weights: Tensor) -> Tensor:
        is_zero = self.start == 0
        return torch.where((weights.detach() == 0) & is_zero.any(), is_zero.int().argmax(), self.places)


def cluster(weights: Tensor, bits: int, *, with_zero: bool = False) -> tuple[Tensor, Tensor]:
    """Cluster a layer's weights by k-means.

    Returns 2^bits shared values (k,) in rising order, and the place of each weight's value among them, int64. The
    values start evenly between the smallest and the largest weight ("linear initialisation", which preserves large
    weights best; Han et al. 2016, arXiv 1510.00149, section 3). Weights of exactly 0 do not enter the means and have a
    value 0 of their own, so they stay pruned. with_zero: add the value 0 even if no weight is 0 yet.

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
    places = nearest_place(flat, values)
    if pruned:
        zero = int((values == 0).nonzero()[0])
        places = torch.where(flat == 0, zero, places)
    return values, places.view(weights.shape)


def nearest_place(weights: Tensor, values: Tensor) -> Tensor:
    """Return the place, int64, of the nearest of the rising `values` (k,) for each weight."""
    return torch.bucketize(weights.contiguous(), (values[1:] + values[:-1]) / 2)


def shared_integers(values: Tensor) -> tuple[Tensor, Tensor]:
    """Quantize shared values (k,) to int8 with one positive scale (); the largest becomes 127.

    >>> shared_integers(torch.tensor([-2.54, 0.0, 0.014]))[0]
    tensor([-127,    0,    1], dtype=torch.int8)
    """
    largest = values.detach().abs().max()
    scale = torch.where(largest > torch.finfo(torch.float32).tiny, largest / LARGEST_SHARED, 1.0)
    return (values.detach() / scale).round().to(torch.int8), scale


def _means(weights: Tensor, count: int) -> Tensor:
    """Lloyd's algorithm in one dimension; a value without weights stays unchanged."""
    values = torch.linspace(float(weights.min()), float(weights.max()), count, device=weights.device)
    for _ in range(KMEANS_ITERATIONS):
        places = nearest_place(weights, values)
        counts = torch.bincount(places, minlength=count)
        sums = torch.bincount(places, weights=weights, minlength=count).to(values.dtype)
        moved = torch.where(counts > 0, sums / counts.clamp(min=1), values)
        if torch.equal(moved, values):
            break
        values = moved
    return values
