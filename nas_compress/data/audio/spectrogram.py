"""Logarithmic mel spectrograms by NumPy, for statistics and as a reference."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_compress.tasks.memory_map import Rows, pieces_of
from nas_compress.values.audio.log_mel import FLOOR, LogMel
from nas_compress.values.normalisation import Normalisation

PIECE = 1_000_000
"""Samples of sounds that are transformed at once."""

LEAST_STD = 1e-6
"""Deviation of a band below which all its values count as equal."""


def log_mel(sounds: NDArray[Any], settings: LogMel) -> NDArray[np.float64]:
    """Return the spectrograms (N, bands, frames) of 16-bit samples (N, samples).

    >>> bool(log_mel(np.zeros((1, 256), dtype=np.int16), LogMel.at_rate(8_000)).max() == np.log(FLOOR))
    True
    """
    frames = np.lib.stride_tricks.sliding_window_view(sounds, settings.window, axis=1)[:, :: settings.hop]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(settings.window) / settings.window)
    spectrum = np.fft.rfft(frames * hann * settings.factor, axis=2)
    power = spectrum.real**2 + spectrum.imag**2
    return np.log(power @ settings.filters().T + FLOOR).transpose(0, 2, 1)


def spectrogram_normalisation(sounds: Rows, settings: LogMel) -> Normalisation:
    """Return mean and deviation of each band over all sounds and frames; the deviation is 1 in a constant band."""
    sums, squares, count = np.zeros(settings.bands), np.zeros(settings.bands), 0
    shift = np.log(FLOOR) / 2  # squares of small numbers keep their digits
    for piece in pieces_of(sounds):
        for part in np.array_split(piece, min(len(piece), 1 + piece.size // PIECE)):
            values = log_mel(part, settings) - shift
            sums += values.sum(axis=(0, 2))
            squares += (values**2).sum(axis=(0, 2))
            count += values.shape[0] * values.shape[2]
    mean = sums / count
    std = np.sqrt(np.maximum(0, squares / count - mean**2))
    std = np.where(std > LEAST_STD, std, 1.0)
    return Normalisation(mean=tuple((mean + shift).tolist()), std=tuple(std.tolist()))
