"""Texts and labels to the splits of a task of token ids."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_compress.callbacks import Notice
from nas_compress.data.assemble import Parts, Samples, no_samples, strata
from nas_compress.data.augment.protocol import NoAugmentation
from nas_compress.data.stratified_split import validation_and_train
from nas_compress.data.targets import Kind, read_targets
from nas_compress.data.text.hashing import hashed_inputs
from nas_compress.data.text.vocabulary import DEFAULT_LONGEST, DEFAULT_SIZE, LEAST_SIZE, trained_pieces
from nas_compress.errors import refusal
from nas_compress.tasks.batch import lengths_of
from nas_compress.values.file_contract import INPUT_NAME
from nas_compress.values.signature import token_input
from nas_compress.values.text.word_pieces import WordPieces

_log = logging.getLogger(__name__)

Texts = tuple[Sequence[str], NDArray[Any]]
"""Texts of a split, and one target for each."""


@dataclass(frozen=True, kw_only=True)
class TextSettings:
    """How texts become ids: the size of the vocabulary, and the most ids of a text. None: the defaults.

    buckets: ids of words are made by a hash inside the file, with so many different ones; None: ids of word pieces.
    """

    vocabulary: int | None = None
    longest: int | None = None
    buckets: int | None = None

    def require_sound(self, where: str) -> None:
        """Raise RequestError for a vocabulary that has no room for letters, or for two vocabularies."""
        if self.vocabulary is not None and self.buckets is not None:
            rule = "texts must have one of vocabulary (word pieces) and hash_buckets (hashed words)"
            raise refusal(f"{rule}, but got vocabulary={self.vocabulary} and hash_buckets={self.buckets}", where)
        if self.vocabulary is not None and self.vocabulary < LEAST_SIZE:
            raise refusal(f"vocabulary >= {LEAST_SIZE} must hold, but got vocabulary={self.vocabulary}", where)


def text_parts(
    *,
    name: str,
    splits: Mapping[str, Texts],
    settings: TextSettings,
    kind: Kind | None = None,
    seed: int,
    where: str,
    notice: Notice = _log.warning,
) -> Parts:
    """Return the splits as ids of word pieces, int32 (N, T), padded to the longest text of each split.

    splits: train, and perhaps validation (otherwise drawn from train by `seed`) and test. The word pieces are those of
    the training texts. kind: the task of the targets; None for the one that follows from them.
    RequestError in one line for texts or targets that cannot be used.
    """
    settings.require_sound(where)
    texts = {split: _checked(given, split, where) for split, (given, _) in splits.items()}
    blank = {INPUT_NAME: np.zeros((len(texts["train"]), 1), dtype=np.int32)}
    found = read_targets(kind, blank, {split: labels for split, (_, labels) in splits.items()}, where=where)
    targets = dict(found.splits)
    if "validation" not in texts:
        # before the vocabulary is made, which must not know the validation texts
        validation, train = validation_and_train(strata(found.task, (blank, targets["train"])), seed=seed)
        for split, index in (("validation", validation), ("train", train)):
            texts[split] = [splits["train"][0][number] for number in index]
            targets[split] = {name: values[index] for name, values in found.splits["train"].items()}
    longest = settings.longest or DEFAULT_LONGEST
    inputs: Mapping[str, NDArray[Any]]
    if settings.buckets is not None:
        spec, inputs = hashed_inputs(texts, buckets=settings.buckets, longest=longest)
    else:
        size = settings.vocabulary or DEFAULT_SIZE
        pieces = trained_pieces(texts["train"], size=size, longest=longest, where=where, notice=notice)
        inputs = {split: encoded(given, pieces) for split, given in texts.items()}
        lengths = lengths_of(inputs["validation"])
        spec = token_input(len(pieces.pieces), pieces=pieces, lengths=lengths)
    samples: dict[str, Samples] = {split: ({INPUT_NAME: values}, targets[split]) for split, values in inputs.items()}
    return Parts(
        name=name,
        task=replace(found.task, inputs=(spec,)),  # type: ignore[type-var]
        train=samples["train"],
        validation=samples["validation"],
        test=samples.get("test") or no_samples(samples["train"]),
        numeric=(),
        augmentation=NoAugmentation(),
    )


def encoded(texts: Sequence[str], pieces: WordPieces) -> NDArray[np.int32]:
    """Return the ids of texts, int32 (N, T), with 0 behind those of shorter texts."""
    rows = [pieces.encode(text) for text in texts]
    ids = np.zeros((len(rows), max(map(len, rows), default=1)), dtype=np.int32)
    for row, values in zip(ids, rows, strict=True):
        row[: len(values)] = values
    return ids


def _checked(texts: Sequence[str], split: str, where: str) -> Sequence[str]:
    if not len(texts):
        raise refusal(f"{split} must not be empty, but got no texts", where)
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise refusal(f"texts of {split} must be strings, but got {type(text).__name__} at {number}", where)
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise refusal(
                f"texts of {split} must be valid Unicode, but got half a character at {number}", where
            ) from error
    return texts
