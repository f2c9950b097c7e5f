"""Mean and standard deviation of raw inputs, in pieces of bounded memory."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from nas_compress.errors import refusal
from nas_compress.tasks.memory_map import Rows, pieces_of
from nas_compress.values.normalisation import Normalisation

PIECE = 1_000_000
"""Numbers that are widened to 64 bits at once."""


def input_normalisation(values: Rows, *, per_channel: bool, where: str) -> Normalisation:
    """Return the statistics of an input (N, ...): per entry of dimension 1, or one for bytes of one channel.

    per_channel: False for one mean and one deviation of all values.
    A constant entry keeps the deviation 1. where: the study file's key, for errors.
    RequestError if an input is not finite or all inputs are equal.
    """
    if values.dtype == np.uint8 and values.ndim > 2 and values.shape[1] == 1:
        mean, std = moments(values)
        if std == 0:
            raise refusal(f"training inputs must not all be equal, but got {mean} everywhere", where)
        return Normalisation(mean=mean, std=std)
    means, stds = channel_moments(values, per_channel=per_channel)
    broken = int((~np.isfinite(means)).sum() + (~np.isfinite(stds)).sum())
    if broken:
        raise refusal("training inputs must be finite, but got nan or infinite values; replace them before", where)
    if not stds.any() and len(np.unique(means)) == 1:
        raise refusal(f"training inputs must not all be equal, but got {means[0]:g} everywhere", where)
    stds = np.where(stds > 0, stds, 1.0)
    if not per_channel:
        return Normalisation(mean=float(means[0]), std=float(stds[0]))
    return Normalisation(mean=tuple(means.tolist()), std=tuple(stds.tolist()))


def moments(inputs: Rows) -> tuple[int, float]:
    """Return the rounded mean of all bytes and their standard deviation about the exact mean."""
    sums, squares, count = byte_sums(inputs)
    mean, std = _moments_of(int(sums.sum()), int(squares.sum()), count * len(sums))
    return round(mean), std


def byte_sums(inputs: Rows) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Return sum and sum of squares of the bytes in each entry of dimension 1, and how many bytes an entry has."""
    axes = tuple(axis for axis in range(inputs.ndim) if axis != 1)
    sums, squares = np.zeros((2, inputs.shape[1]), dtype=np.int64)
    for piece in pieces_of(inputs):
        # squares take 2 bytes a value: in pieces, so that 40 million pixels do not become 80 MB
        for part in np.array_split(piece, min(len(piece), 1 + piece.size // PIECE)):
            sums += part.sum(axis=axes, dtype=np.int64)
            squares += np.square(part, dtype=np.uint16).sum(axis=axes, dtype=np.int64)
    return sums, squares, inputs.size // inputs.shape[1]


def channel_moments(values: Rows, *, per_channel: bool = True) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation of each entry of dimension 1, (C,); (1,) for values (N,).

    per_channel: False for those of all values together, (1,).
    Two passes over numbers: the second one is about the mean, because a difference of large sums would lose small
    deviations. Bytes need one pass, because their sums are exact.
    """
    if values.dtype == np.uint8 and values.ndim > 2 and per_channel:
        sums, squares, count = byte_sums(values)
        found = [_moments_of(*each, count) for each in zip(sums.tolist(), squares.tolist(), strict=True)]
        return np.array([mean for mean, _ in found]), np.array([std for _, std in found])
    apart = per_channel and values.ndim > 1
    axes = tuple(axis for axis in range(values.ndim) if axis != 1 or not apart)
    shape = [1, -1, *[1] * (values.ndim - 2)] if apart else [1] * values.ndim
    count = values.size // (values.shape[1] if apart else 1)

    def total(centre: NDArray[np.float64] | float, power: int) -> NDArray[np.float64]:
        parts = []
        for piece in pieces_of(values):
            for part in np.array_split(piece, min(len(piece), 1 + piece.size // PIECE)):
                parts.append(np.atleast_1d(((part.astype(np.float64) - centre) ** power).sum(axis=axes)))
        return np.asarray(np.sum(parts, axis=0))

    with np.errstate(all="ignore"):  # inputs that are not finite are found by the caller
        mean = total(0.0, 1) / count
        std = np.sqrt(total(mean.reshape(shape), 2) / count)
    return mean, np.where(std > 1e-12 * np.abs(mean), std, 0.0) if np.isfinite(std).all() else std


def _moments_of(total: int, squares: int, count: int) -> tuple[float, float]:
    """Return mean and standard deviation of whole numbers from their exact sums."""
    return total / count, math.sqrt((count * squares - total**2) / count**2)
