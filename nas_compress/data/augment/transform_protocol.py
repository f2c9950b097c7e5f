"""The Protocol of a random transform of single samples, and its random numbers."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from nas_compress.errors import RequestError
from nas_compress.values.signature import TensorSpec


class Transform(Protocol):
    """A random change of each sample, decided by numbers drawn uniformly from 0 to 1.

    A sample's result depends on the sample and its numbers only. All inputs of a sample get the same numbers.
    """

    @property
    def numbers(self) -> int:
        """Random numbers that one sample needs."""

    def check(self, inputs: tuple[TensorSpec, ...]) -> None:
        """Raise RequestError for inputs of another kind."""

    def apply(self, values: Tensor, numbers: Tensor, mean: Tensor) -> Tensor:
        """Return changed samples of the same type and shape.

        values: (B, ...). numbers: float64 (B, k). mean: of each channel of the training split, in the shape (1, C, 1,
        ...) and type of the values.
        """


def up_to(numbers: Tensor, limit: Tensor | int) -> Tensor:
    """Return whole numbers from 0 to `limit`, each equally likely.

    >>> up_to(torch.tensor([0.0, 0.49, 0.5, 0.99]), 1).tolist()
    [0, 0, 1, 1]
    """
    return (numbers * (limit + 1)).long()


def between(numbers: Tensor, low: float, high: float) -> Tensor:
    """Return numbers from `low` to `high`."""
    return low + numbers * (high - low)


def within(begin: Tensor, length: Tensor, size: int) -> Tensor:
    """Return True (B, size) at the places from `begin` (B,) to `begin + length`, excluded."""
    places = torch.arange(size, device=begin.device)
    return (places >= begin[:, None]) & (places < (begin + length)[:, None])


def like(values: Tensor, kind: torch.dtype) -> Tensor:
    """Return values in a type; whole numbers are rounded."""
    return values.to(kind) if kind.is_floating_point else values.round().to(kind)


def require_images(inputs: tuple[TensorSpec, ...], name: str) -> None:
    """Raise RequestError unless every input is an image of a fixed size. name: the key, for the error text."""
    for spec in inputs:
        if len(spec.shape) != 4 or not all(isinstance(side, int) for side in spec.sample_shape):
            raise RequestError(f"{name} needs images (N, C, H, W), but got {spec.name}: {spec.shape}")
