"""Mean and standard deviation of raw inputs, in pieces of bounded memory."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_compress.errors import refusal
from nas_compress.values.normalisation import Normalisation

PIECE = 1_000_000
"""Numbers that are widened to 64 bits at once."""


def input_normalisation(values: NDArray[Any], *, per_channel: bool, where: str) -> Normalisation:
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
    means, stds = channel_moments(values if per_channel else values.reshape(-1))
    broken = int((~np.isfinite(means)).sum() + (~np.isfinite(stds)).sum())
    if broken:
        raise refusal("training inputs must be finite, but got nan or infinite values; replace them before", where)
    if not stds.any() and len(np.unique(means)) == 1:
        raise refusal(f"training inputs must not all be equal, but got {means[0]:g} everywhere", where)
    stds = np.where(stds > 0, stds, 1.0)
    if not per_channel:
        return Normalisation(mean=float(means[0]), std=float(stds[0]))
    return Normalisation(mean=tuple(means.tolist()), std=tuple(stds.tolist()))


def moments(inputs: NDArray[np.uint8]) -> tuple[int, float]:
    """Return the rounded mean of all values and their standard deviation about the exact mean."""
    counts = np.zeros(256, dtype=np.int64)
    # bincount widens to 8 bytes a value: in pieces, so that 40 million pixels do not become 340 MB.
    for piece in np.array_split(inputs.reshape(-1), 1 + inputs.size // PIECE):
        counts += np.bincount(piece, minlength=256)
    values = np.arange(256)
    mean = float((counts * values).sum() / counts.sum())
    variance = float((counts * (values - mean) ** 2).sum() / counts.sum())
    return round(mean), math.sqrt(variance) if np.count_nonzero(counts) > 1 else 0.0


def channel_moments(values: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation of each entry of dimension 1, (C,); (1,) for values (N,).

    Two passes: the second one is about the mean, because a difference of large sums would lose small deviations.
    """
    axes = tuple(axis for axis in range(values.ndim) if axis != 1)
    pieces = np.array_split(np.arange(len(values)), 1 + values.size // PIECE)
    shape = [1, -1, *[1] * (values.ndim - 2)] if values.ndim > 1 else [-1]
    count = values.size // (values.shape[1] if values.ndim > 1 else 1)

    def total(centre: NDArray[np.float64] | float, power: int) -> NDArray[np.float64]:
        parts = [
            np.atleast_1d(((values[piece].astype(np.float64) - centre) ** power).sum(axis=axes)) for piece in pieces
        ]
        return np.asarray(np.sum(parts, axis=0))

    with np.errstate(all="ignore"):  # inputs that are not finite are found by the caller
        mean = total(0.0, 1) / count
        std = np.sqrt(total(mean.reshape(shape), 2) / count)
    return mean, np.where(std > 1e-12 * np.abs(mean), std, 0.0) if np.isfinite(std).all() else std
