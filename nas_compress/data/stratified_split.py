"""Random divisions of indices; each class keeps its share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_compress.errors import RequestError

Labels = NDArray[np.integer]
Indices = NDArray[np.int64]

VALIDATION_SHARE = 0.15
"""Share of the training samples that becomes the validation split if a user's data has none."""


def validation_and_train(labels: Labels, *, seed: int) -> tuple[Indices, Indices]:
    """Divide training samples into a validation split of VALIDATION_SHARE, at least one sample, and the rest.

    A class with two samples or more has one in each.
    """
    count = max(1, round(VALIDATION_SHARE * len(labels)))
    validation, train = stratified_split(labels, counts=(count, len(labels) - count), seed=seed)
    return _with_every_class(labels, validation, train)


def _with_every_class(labels: Labels, validation: Indices, train: Indices) -> tuple[Indices, Indices]:
    """Move one sample of each class that validation lacks and train has twice, for classes with few samples."""
    lacking = np.setdiff1d(labels, labels[validation])
    own = [train[labels[train] == label] for label in lacking]
    moved = np.array([members[0] for members in own if len(members) > 1], dtype=np.int64)
    return np.sort(np.concatenate([validation, moved])), np.setdiff1d(train, moved)


def validation_and_train_of_groups(labels: Labels, groups: NDArray[Any], *, seed: int) -> tuple[Indices, Indices]:
    """Divide training samples as `validation_and_train` does, with each group whole in one of the two splits.

    groups: (N,), numbers or words. Groups are visited in random order; a group is taken if the classes of the
    validation split get nearer to VALIDATION_SHARE of theirs.
    RequestError if there are fewer than two groups.
    """
    names, member = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        raise RequestError(f"there must be at least 2 groups to draw a validation split, but got {len(names)}")
    classes, own = np.unique(labels, return_inverse=True)
    counts = np.zeros((len(names), len(classes)))
    np.add.at(counts, (member, own), 1)
    wanted, taken = VALIDATION_SHARE * counts.sum(axis=0), np.zeros(len(classes))
    chosen: list[int] = []
    for group in np.random.default_rng(seed).permutation(len(names)).tolist():
        with_it = taken + counts[group]
        if ((with_it - wanted) ** 2).sum() < ((taken - wanted) ** 2).sum():
            taken, chosen = with_it, [*chosen, group]
    if not chosen:  # every group is larger than twice the share
        chosen = [int(counts.sum(axis=1).argmin())]
    validation = np.isin(member, chosen)
    return np.flatnonzero(validation), np.flatnonzero(~validation)


def stratified_split(labels: Labels, *, counts: Sequence[int], seed: int) -> tuple[Indices, ...]:
    """Divide all indices of `labels` (N,) into parts of `counts` samples; the counts must add up to N.

    In the first part a class differs from its exact share by less than one sample. Each part is sorted.
    """
    if min(counts) < 0 or sum(counts) != len(labels):
        raise RequestError(f"counts >= 0 must add up to {len(labels)} labels, but got counts={tuple(counts)}")
    left = _shuffled_by_class(labels, seed)
    parts = []
    for count in counts:
        taken = _shares([len(members) for members in left], count)
        parts.append(_joined([members[:k] for members, k in zip(left, taken, strict=True)]))
        left = [members[k:] for members, k in zip(left, taken, strict=True)]
    return tuple(parts)


def stratified_subset(labels: Labels, *, count: int, seed: int, least: int = 1) -> Indices:
    """Choose `count` sorted indices of `labels` (N,), at least `least` of each class present."""
    members = _shuffled_by_class(labels, seed)
    needed = least * len(members)
    if not needed <= count <= len(labels):
        raise RequestError(f"{needed} <= count <= {len(labels)} must hold, but got count={count}")
    more = _shares([len(of_class) - least for of_class in members], count - needed)
    return _joined([of_class[: least + k] for of_class, k in zip(members, more, strict=True)])


def _shuffled_by_class(labels: Labels, seed: int) -> list[Indices]:
    generator = np.random.default_rng(seed)
    return [generator.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]


def _shares(sizes: Sequence[int], count: int) -> list[int]:
    """Divide `count` in proportion to `sizes`, rounded by largest remainder; no share exceeds its size."""
    total = max(sum(sizes), 1)
    shares = [size * count // total for size in sizes]
    by_remainder = sorted(range(len(sizes)), key=lambda i: -(sizes[i] * count % total))
    for i in by_remainder[: count - sum(shares)]:
        shares[i] += 1
    return shares


def _joined(parts: Sequence[Indices]) -> Indices:
    return np.sort(np.concatenate(parts)) if parts else np.empty(0, dtype=np.int64)
