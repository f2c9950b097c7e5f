"""Floats in steps of 1/255, which were bytes before. This file imports no framework."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

EXACT = 1e-3
"""Largest distance of 255 times a float from an integer to count as a stored byte; float32 rounding gives 2e-5."""


def stored_bytes(values: NDArray[Any]) -> NDArray[np.uint8] | None:
    """Undo a division of bytes by 255; None for other numbers, and for floats that are all 0 or 1."""
    stored = exact_bytes(values)
    if stored is None or not ((stored > 0) & (stored < 255)).any():
        return None
    return stored


def exact_bytes(values: NDArray[Any]) -> NDArray[np.uint8] | None:
    """Undo a division of bytes by 255; None for other numbers."""
    if values.dtype.kind != "f":
        return None
    with np.errstate(all="ignore"):  # infinities and nan fail the test below
        scaled = values.astype(np.float64) * 255
        stored = np.round(scaled)
        fits = (np.abs(scaled - stored) < EXACT) & (stored >= 0) & (stored <= 255)
    return stored.astype(np.uint8) if fits.all() else None
