"""scikit-learn's handwritten digits: small enough to search in minutes on a laptop."""

from __future__ import annotations

import numpy as np

from nas_compress.data.assemble import Parts, image_parts
from nas_compress.data.stratified_split import stratified_split
from nas_compress.optional_imports import broken_counts_as_missing

SPLIT = (1_079, 359, 359)
"""Samples for training, validation and test: 60 %, 20 % and 20 % of 1,797."""


def read_digits(seed: int) -> Parts:
    """Return the digits as uint8 (N, 1, 8, 8) with values 0 to 16, divided by `seed`."""
    with broken_counts_as_missing("pandas"):
        from sklearn.datasets import load_digits  # imported here, because the import takes a second

    values, targets = load_digits(return_X_y=True)
    inputs = np.asarray(values, dtype=np.uint8).reshape(-1, 1, 8, 8)
    labels = np.asarray(targets, dtype=np.int64)
    train, validation, test = (
        (inputs[chosen], labels[chosen]) for chosen in stratified_split(labels, counts=SPLIT, seed=seed)
    )
    return image_parts(name="digits", classes=10, train=train, validation=validation, test=test)
