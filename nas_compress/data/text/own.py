"""Texts and token ids from a function of the user: lists of strings, or whole numbers with their vocabulary's size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nas_compress.callbacks import Notice
from nas_compress.data.array_conversion import as_targets, kind_of
from nas_compress.data.assemble import Parts
from nas_compress.data.targets import Kind
from nas_compress.data.text.parts import UNLABELLED, TextSettings, text_parts, token_parts, with_validation
from nas_compress.data.user_task_data import SPLITS
from nas_compress.errors import refusal

VOCABULARY = "vocabulary"
"""Key of the function's mapping: the number of token ids."""


def holds_sequences(returned: Mapping[object, object]) -> bool:
    """Return True if a function returned token ids, which have a vocabulary, or texts."""
    train = returned["train"]
    is_pair = isinstance(train, tuple | list) and len(train) == 2
    return VOCABULARY in returned or (is_pair and _is_texts(train[0]))  # type: ignore[index]


def own_sequences(
    returned: Mapping[object, object],
    *,
    name: str,
    settings: TextSettings,
    kind: Kind | None,
    groups: Mapping[str, NDArray[Any]] | None,
    seed: int,
    where: str,
    notice: Notice,
) -> Parts:
    """Return the splits of texts or token ids.

    groups: of the samples of each split, see `text_parts`. notice: receives a line about ids that become int32, and
    about samples that are cut to the settings' longest.
    RequestError in one line for samples or targets that cannot be used.
    """
    pairs = {split: _pair(returned[split], split, where) for split in SPLITS if split in returned}
    labels = {split: as_targets(targets, split, where) for split, (_, targets) in pairs.items()}
    if VOCABULARY not in returned:
        further = _as_list(returned.get(UNLABELLED, ()), UNLABELLED, where)
        return text_parts(
            name=name,
            splits={split: (_as_list(texts, split, where), labels[split]) for split, (texts, _) in pairs.items()},
            settings=settings,
            unlabelled=further,
            kind=kind,
            groups=groups,
            seed=seed,
            where=where,
            notice=notice,
        )
    values = returned[VOCABULARY]
    if isinstance(values, bool) or not isinstance(values, int) or values < 2:
        raise refusal(f"vocabulary must be the number of token ids, 2 or more, but got {values!r}", where)
    if settings.pruned or any(each is not None for each in (settings.vocabulary, settings.pieces, settings.buckets)):
        raise refusal(
            f"data.vocabulary and hash_buckets are for texts, but {name} returns token ids of {values} values",
            where,
        )
    given = {split: samples for split, (samples, _) in pairs.items()}
    if UNLABELLED in returned:
        given[UNLABELLED] = returned[UNLABELLED]
    rows = {split: _ids(samples, split, values, where) for split, samples in given.items()}
    if any(_is_wide(samples) for samples in given.values()):
        notice("token ids become int32, the type that networks read")
    rows = _cut(rows, settings.longest, notice)
    more = rows.pop(UNLABELLED, [])
    task, splits = with_validation(rows, labels, kind=kind, groups=groups, seed=seed, where=where)
    return token_parts(name=name, task=task, splits=splits, unlabelled=more, values=values)


def _pair(value: object, split: str, where: str) -> tuple[Any, Any]:
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise refusal(f"{split} must be a pair (samples, labels), but got {kind_of(value)}", where)
    return value[0], value[1]


def _is_texts(value: object) -> bool:
    if isinstance(value, np.ndarray):
        return value.ndim == 1 and value.dtype.kind in "UO" and len(value) > 0 and isinstance(value[0], str)
    return isinstance(value, tuple | list) and len(value) > 0 and isinstance(value[0], str)


def _as_list(texts: Any, split: str, where: str) -> Sequence[str]:
    if not isinstance(texts, np.ndarray | list | tuple):
        raise refusal(f"texts of {split} must be a list, but got {kind_of(texts)}", where)
    return texts.tolist() if isinstance(texts, np.ndarray) else list(texts)


def _is_wide(samples: Any) -> bool:
    return str(getattr(samples, "dtype", "")).endswith("int64")


def _ids(samples: Any, split: str, values: int, where: str) -> list[Sequence[int]]:
    """Return the ids of each sample without padding. samples: an array (N, T), or a sequence for each sample."""
    given = samples.detach().cpu().numpy() if isinstance(samples, torch.Tensor) else samples
    if isinstance(given, np.ndarray | list | tuple) and not len(given):
        raise refusal(f"{split} must not be empty, but got no samples of token ids", where)
    if not isinstance(given, np.ndarray | list | tuple):
        raise refusal(
            f"token ids of {split} must be an array (N, T) or a list of lists, but got {kind_of(given)}", where
        )
    rows: list[Sequence[int]] = []
    for number, row in enumerate(given):
        ids = np.asarray(row)
        if ids.ndim != 1 or ids.dtype.kind not in "iu" or not len(ids):
            rule = f"token ids of {split} must be whole numbers, at least one for each sample"
            raise refusal(f"{rule}, but got {ids.dtype} {ids.shape} at {number}", where)
        wrong = ids[(ids < 0) | (ids >= values)]
        if len(wrong):
            rule = f"0 <= id < {values} (vocabulary) must hold in {split}"
            raise refusal(f"{rule}, but got {wrong[0]} at {number}", where)
        # zeros inside a sample stay, to be refused with those at its begin
        rows.append(np.trim_zeros(ids, "b").tolist() or [0])
    return rows


def _cut(
    rows: Mapping[str, list[Sequence[int]]], longest: int | None, notice: Notice
) -> dict[str, list[Sequence[int]]]:
    if longest is None:
        return dict(rows)
    long = sum(len(row) > longest for split in rows.values() for row in split)
    if long:
        notice(f"{long} samples have more than data.max_tokens = {longest} ids; the ids behind these are left out")
    return {split: [row[:longest] for row in samples] for split, samples in rows.items()}
