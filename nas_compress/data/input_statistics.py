"""Mean and standard deviation of raw inputs, in pieces of bounded memory."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from nas_compress.errors import refusal
from nas_compress.tasks.mapped import Rows, pieces_of
from nas_compress.values.normalisation import Normalisation

PIECE = 1_000_000
"""Numbers that are widened to 64 bits at once."""

_BYTES = np.arange(256)


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
    mean, std = _moments_of(byte_counts(inputs).sum(axis=0))
    return round(mean), std


def byte_counts(inputs: Rows) -> NDArray[np.int64]:
    """Return how often each byte occurs in each entry of dimension 1, (C, 256)."""
    counts = np.zeros((inputs.shape[1], 256), dtype=np.int64)
    for piece in pieces_of(inputs):
        for channel, row in enumerate(counts):
            flat = piece[:, channel].reshape(-1)
            # In pieces, because counting may widen its input. torch counts twice as fast as NumPy.
            for part in np.array_split(flat, 1 + flat.size // PIECE):
                row += torch.bincount(torch.tensor(part), minlength=256).numpy()
    return counts


def channel_moments(values: Rows, *, per_channel: bool = True) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation of each entry of dimension 1, (C,); (1,) for values (N,).

    per_channel: False for those of all values together, (1,).
    Two passes over numbers: the second one is about the mean, because a difference of large sums would lose small
    deviations. Bytes are counted in one pass.
    """
    if values.dtype == np.uint8 and values.ndim > 2 and per_channel:
        found = [_moments_of(counts) for counts in byte_counts(values)]
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


def _moments_of(counts: NDArray[np.int64]) -> tuple[float, float]:
    """Return mean and standard deviation of bytes from how often each occurs, (256,)."""
    mean = float((counts * _BYTES).sum() / counts.sum())
    variance = float((counts * (_BYTES - mean) ** 2).sum() / counts.sum())
    return mean, math.sqrt(variance) if np.count_nonzero(counts) > 1 else 0.0
