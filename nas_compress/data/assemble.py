"""From arrays to a Dataset: the training subset, its mean and spread, and the fingerprint."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from nas_compress.data.augmentation import Views
from nas_compress.data.dataset import Dataset, HeldOutSplit, Split
from nas_compress.data.stratified_split import stratified_subset
from nas_compress.errors import refusal

Samples: TypeAlias = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""Inputs uint8 (N, C, H, W) and labels int64 (N,)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
    """What a reader hands over: the three splits as arrays, not yet subset."""

    name: str
    classes: int
    train: Samples
    validation: Samples
    test: Samples


def assemble(parts: Parts, *, views: Views, train_samples: int | None, seed: int, where: str) -> Dataset:
    """Build the Dataset; RequestError where the subset, the views or constant images forbid it."""
    if train_samples is not None:
        parts = _with_fewer(parts, train_samples, seed, where)
    _require_room(parts, views, where)
    mean, std = moments(parts.train[0])
    if std == 0:
        raise refusal(f"training inputs must not all be equal, but got {mean} everywhere", where)
    return Dataset(
        name=parts.name,
        classes=parts.classes,
        train=Split(name="train", inputs=torch.from_numpy(parts.train[0]), labels=torch.from_numpy(parts.train[1])),
        validation=Split(
            name="validation",
            inputs=torch.from_numpy(parts.validation[0]),
            labels=torch.from_numpy(parts.validation[1]),
        ),
        test=HeldOutSplit(inputs=torch.from_numpy(parts.test[0]), labels=torch.from_numpy(parts.test[1])),
        mean=mean,
        std=std,
        views=views,
        fingerprint=fingerprint(parts, views),
    )


def moments(inputs: NDArray[np.uint8]) -> tuple[int, float]:
    """The mean of all values, rounded to an integer, and their standard deviation (about the exact mean)."""
    counts = np.zeros(256, dtype=np.int64)
    # bincount widens to 8 bytes a value: in pieces, so that 40 million pixels do not become 340 MB.
    for piece in np.array_split(inputs.reshape(-1), 1 + inputs.size // 1_000_000):
        counts += np.bincount(piece, minlength=256)
    values = np.arange(256)
    mean = float((counts * values).sum() / counts.sum())
    variance = float((counts * (values - mean) ** 2).sum() / counts.sum())
    return round(mean), math.sqrt(variance) if np.count_nonzero(counts) > 1 else 0.0


def fingerprint(parts: Parts, views: Views) -> str:
    """16 hexadecimal digits over training and validation contents, their division, and the views."""
    digest = hashlib.sha256(f"{views.shift} {views.flip} {parts.classes}".encode())
    for inputs, labels in (parts.train, parts.validation):
        digest.update(f"{inputs.shape}".encode())
        digest.update(np.ascontiguousarray(inputs).data)
        digest.update(np.ascontiguousarray(labels, dtype="<i8").data)
    return digest.hexdigest()[:16]


def _with_fewer(parts: Parts, count: int, seed: int, where: str) -> Parts:
    inputs, labels = parts.train
    if not parts.classes <= count <= len(labels):
        rule = f"{parts.classes} (classes) <= train_samples <= {len(labels)} (there are) must hold"
        raise refusal(f"{rule}, but got train_samples={count}", where)
    chosen = stratified_subset(labels, count=count, seed=seed)
    return replace(parts, train=(inputs[chosen], labels[chosen]))


def _require_room(parts: Parts, views: Views, where: str) -> None:
    side = min(parts.train[0].shape[2:])
    if views.shift >= side:
        raise refusal(f"shift < {side} (the shorter side) must hold, but got shift={views.shift}", where)
