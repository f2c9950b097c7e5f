"""How a layer in training rounds its weights.

By a learned step, by its largest weight, to the sign alone, or to values that its weights share.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from nas_compress.quantization import arithmetic
from nas_compress.quantization.codebook import cluster, shared_integers
from nas_compress.quantization.fake_quantization import binary_weights, learned_step, shared_values, straight_through


class WeightQuantizer(nn.Module, ABC):
    """Rounds the weights of one layer, (outputs, ...), with a scale per output channel."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = bits

    @abstractmethod
    def forward(self, weights: Tensor) -> Tensor:
        """The rounded weights, float32, with gradients for training."""

    @abstractmethod
    def scale(self, weights: Tensor) -> Tensor:
        """The scale (outputs,) with which `forward` rounds these weights now."""

    @property
    def codebook(self) -> Tensor | None:
        """The integers that the layer shares, int8 (2^bits,); None where they are those of its width."""
        return None

    def integers(self, weights: Tensor) -> Tensor:
        """The int8 integers that `forward` rounds these weights to."""
        return arithmetic.quantize_weights(weights, self.scale(weights), self.bits)


class LearnedStepWeight(WeightQuantizer):
    """Learned step size (Esser et al. 2020, arXiv 1902.08153), one per output channel.

    The step is learned by its logarithm: it stays positive, and an optimiser with steps of equal size changes it by an
    equal fraction in every layer. It starts where rounding hurts the given weights least.
    """

    def __init__(self, weights: Tensor, bits: int) -> None:
        super().__init__(bits)
        self.log_step = nn.Parameter(arithmetic.nearest_scale(weights, bits).log())

    def forward(self, weights: Tensor) -> Tensor:
        """The rounded weights."""
        lowest, highest = arithmetic.weight_levels(self.bits)
        step = arithmetic.per_channel(self.log_step.exp(), weights.dim())
        gradient_scale = (weights[0].numel() * highest) ** -0.5
        return learned_step(weights, step, lowest=lowest, highest=highest, gradient_scale=gradient_scale)

    def scale(self, weights: Tensor) -> Tensor:
        """The learned steps."""
        return self.log_step.detach().exp()


class LargestWeight(WeightQuantizer):
    """Each channel's largest weight gets the largest integer, anew in each step; gradients pass straight through."""

    def forward(self, weights: Tensor) -> Tensor:
        """The rounded weights."""
        lowest, highest = arithmetic.weight_levels(self.bits)
        step = arithmetic.per_channel(self.scale(weights), weights.dim())
        return straight_through(weights, step, lowest=lowest, highest=highest)

    def scale(self, weights: Tensor) -> Tensor:
        """The largest magnitudes over the largest integer; 1 for a channel of zeros."""
        largest = weights.detach().flatten(1).abs().amax(dim=1)
        return torch.where(largest > 0, largest, 1.0) / arithmetic.weight_levels(self.bits)[1]


class SignWeight(WeightQuantizer):
    """The sign of each weight times its channel's mean magnitude (Rastegari et al. 2016, arXiv 1603.05279)."""

    def __init__(self) -> None:
        super().__init__(bits=1)

    def forward(self, weights: Tensor) -> Tensor:
        """The rounded weights."""
        return binary_weights(weights)

    def scale(self, weights: Tensor) -> Tensor:
        """The mean magnitudes."""
        return weights.detach().flatten(1).abs().mean(dim=1)


class SharedWeight(WeightQuantizer):
    """Weights that share 2^bits values, which alone are learned (Han et al. 2016, arXiv 1510.00149, section 3).

    Which weight has which value is settled from the given weights, by k-means. The values are learned in units of
    their own size, so that an optimiser with steps of equal size changes them by an equal fraction in every layer.
    Computed with are the 8-bit integers that the file will hold. Where one value is 0, as `with_zero` makes sure, a
    weight has it for as long as it is itself 0: it may be pruned later.
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
        """The shared values (2^bits,) as they are learned; one that was 0 stays it."""
        return self.start + self.moves * self.start.square().mean().sqrt() * (self.start != 0)

    def forward(self, weights: Tensor) -> Tensor:
        """The shared values, each where it stands; the given weights tell no more than which of them are 0."""
        values = self.values
        integers, scale = shared_integers(values)
        # gradients pass the rounding
        return shared_values(values + (integers * scale - values).detach(), self._places_of(weights))

    def scale(self, weights: Tensor) -> Tensor:
        """One scale for the layer, (outputs,)."""
        return shared_integers(self.values)[1].expand(len(weights))

    @property
    def codebook(self) -> Tensor | None:
        """The shared values as integers, int8 (2^bits,)."""
        return shared_integers(self.values)[0]

    def integers(self, weights: Tensor) -> Tensor:
        """The int8 integers of all weights."""
        return shared_integers(self.values)[0][self._places_of(weights)]

    def _places_of(self, weights: Tensor) -> Tensor:
        is_zero = self.start == 0
        return torch.where((weights.detach() == 0) & is_zero.any(), is_zero.int().argmax(), self.places)
