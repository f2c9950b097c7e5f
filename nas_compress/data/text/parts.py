"""Texts and labels to the splits of a task of token ids."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from nas_compress.callbacks import Notice
from nas_compress.data.assemble import Parts, Samples, no_samples, strata
from nas_compress.data.augment.protocol import NoAugmentation
from nas_compress.data.stratified_split import validation_and_train, validation_and_train_of_groups
from nas_compress.data.targets import Kind, read_targets, require_drawn
from nas_compress.data.text.utf8_bytes import hashed_inputs
from nas_compress.data.text.vocabulary import DEFAULT_LONGEST, DEFAULT_SIZE, LEAST_SIZE, trained_pieces
from nas_compress.errors import RequestError, refusal
from nas_compress.tasks.batch import Arrays, InputRows, lengths_of
from nas_compress.tasks.task import Task
from nas_compress.values.file_constants import INPUT_NAME
from nas_compress.values.signature import TensorSpec, token_input
from nas_compress.values.text.kept_pieces import pruned_pieces
from nas_compress.values.text.word_pieces import WordPieces

_log = logging.getLogger(__name__)

UNLABELLED = "unlabelled"
"""Name of the samples without targets."""

R = TypeVar("R")

Texts = tuple[Sequence[str], NDArray[Any]]
"""Texts of a split, and one target for each."""


@dataclass(frozen=True, kw_only=True)
class TextSettings:
    """How texts become ids. None: the defaults.

    vocabulary: size of a vocabulary that is learned. longest: ids of a text, at most. pieces: a given vocabulary.
    buckets: ids of words are made by a hash inside the file, with so many different ones; None: ids of word pieces.
    pruned: of the given pieces, those that the training texts need, at most `vocabulary` of them.
    """

    vocabulary: int | None = None
    longest: int | None = None
    pieces: WordPieces | None = None
    buckets: int | None = None
    pruned: bool = False

    def require_sound(self, where: str) -> None:
        """Raise RequestError for a vocabulary that has no room for letters, or for two vocabularies."""
        if self.pruned and self.pieces is None:
            rule = 'pruned_vocabulary needs given word pieces: data.vocabulary = "teacher", or a file'
            got = f"hash_buckets={self.buckets}" if self.buckets is not None else f"vocabulary={self.vocabulary}"
            raise refusal(f"{rule}, but got {got}", where)
        if self.buckets is not None and (self.vocabulary is not None or self.pieces is not None):
            rule = "texts must have one of vocabulary (word pieces) and hash_buckets (hashed words)"
            given = self.vocabulary if self.pieces is None else f"{len(self.pieces.pieces)} word pieces"
            raise refusal(f"{rule}, but got vocabulary={given} and hash_buckets={self.buckets}", where)
        if self.vocabulary is not None and self.vocabulary < LEAST_SIZE and not self.pruned:
            raise refusal(f"vocabulary >= {LEAST_SIZE} must hold, but got vocabulary={self.vocabulary}", where)


def text_parts(
    *,
    name: str,
    splits: Mapping[str, Texts],
    settings: TextSettings,
    unlabelled: Sequence[str] = (),
    kind: Kind | None = None,
    groups: Mapping[str, NDArray[Any]] | None = None,
    seed: int,
    where: str,
    notice: Notice = _log.warning,
) -> Parts:
    """Return the splits as ids of word pieces, int32 (N, T), padded to the longest text of each split.

    splits: train, and perhaps validation (otherwise drawn from train by `seed`) and test. The word pieces are those of
    the training texts and of the unlabelled ones. unlabelled: texts without targets. kind: the task of the targets;
    None for the one that follows from them. groups: of the training texts; a drawn validation split takes whole groups.
    RequestError in one line for texts or targets that cannot be used.
    """
    settings.require_sound(where)
    texts = {split: checked_texts(given, split, where) for split, (given, _) in splits.items()}
    more = checked_texts(unlabelled, "unlabelled", where) if len(unlabelled) else ()
    # before the vocabulary is made, which must not know the validation texts
    task, divided = with_validation(
        texts,
        {split: labels for split, (_, labels) in splits.items()},
        kind=kind,
        groups=groups,
        seed=seed,
        where=where,
    )
    if settings.buckets is not None:
        longest = settings.longest or DEFAULT_LONGEST
        given = {split: values for split, (values, _) in divided.items()} | ({UNLABELLED: more} if len(more) else {})
        spec, inputs = hashed_inputs(given, buckets=settings.buckets, longest=longest)
        without = inputs.pop(UNLABELLED, None)
        samples = {split: ({INPUT_NAME: values}, divided[split][1]) for split, values in inputs.items()}
        return _parts(name, task, spec, samples, None if without is None else {INPUT_NAME: without})
    pieces = _pieces([*divided["train"][0], *more], settings, where, notice)
    rows = {split: ([pieces.encode(text) for text in given], labels) for split, (given, labels) in divided.items()}
    further = [pieces.encode(text) for text in more]
    return token_parts(name=name, task=task, splits=rows, unlabelled=further, values=len(pieces.pieces), pieces=pieces)


def _pieces(texts: Sequence[str], settings: TextSettings, where: str, notice: Notice) -> WordPieces:
    """Return the given word pieces, those of them that the texts need, or those that are learned from the texts."""
    if settings.pieces is None:
        return trained_pieces(
            texts,
            size=settings.vocabulary or DEFAULT_SIZE,
            longest=settings.longest or DEFAULT_LONGEST,
            where=where,
            notice=notice,
        )
    if not settings.pruned:
        return settings.pieces
    try:
        return pruned_pieces(settings.pieces, texts, size=settings.vocabulary)
    except RequestError as error:
        raise refusal(str(error), where) from error


def with_validation(
    rows: Mapping[str, Sequence[R]],
    targets: Mapping[str, NDArray[Any]],
    *,
    kind: Kind | None,
    groups: Mapping[str, NDArray[Any]] | None,
    seed: int,
    where: str,
) -> tuple[Task, dict[str, tuple[Sequence[R], Arrays]]]:
    """Return the task, and each split with its targets; a missing validation split is drawn from train.

    The arguments are those of `text_parts`. RequestError if a class lacks samples in train or validation.
    """
    for split, given in rows.items():
        if len(given) != len(targets[split]):
            got = f"{len(targets[split])} labels for {len(given)} samples"
            raise refusal(f"{split} must have one label for each input, but got {got}", where)
    blank = {INPUT_NAME: np.zeros((len(rows["train"]), 1), dtype=np.int32)}
    found = read_targets(kind, blank, targets, where=where)
    splits: dict[str, tuple[Sequence[R], Arrays]] = {
        split: (given, found.splits[split]) for split, given in rows.items()
    }
    if "validation" not in splits:
        labels = strata(found.task, (blank, found.splits["train"]))
        try:
            validation, train = (
                validation_and_train(labels, seed=seed)
                if groups is None
                else validation_and_train_of_groups(labels, groups["train"], seed=seed)
            )
        except RequestError as error:
            raise refusal(str(error), where) from error
        for split, index in (("validation", validation), ("train", train)):
            chosen = {name: values[index] for name, values in found.splits["train"].items()}
            splits[split] = ([rows["train"][number] for number in index], chosen)
        require_drawn({split: values for split, (_, values) in splits.items()}, where)
    return found.task, splits


def token_parts(
    *,
    name: str,
    task: Task,
    splits: Mapping[str, tuple[Sequence[Sequence[int]], Arrays]],
    unlabelled: Sequence[Sequence[int]],
    values: int,
    pieces: WordPieces | None = None,
) -> Parts:
    """Return splits of token ids, each sample with a length of its own. values: number of ids, padding included."""
    ids = {split: padded(rows) for split, (rows, _) in splits.items()}
    spec = token_input(values, pieces=pieces, lengths=lengths_of(ids["validation"]))
    samples = {split: ({INPUT_NAME: ids[split]}, targets) for split, (_, targets) in splits.items()}
    return _parts(name, task, spec, samples, {INPUT_NAME: padded(unlabelled)} if len(unlabelled) else None)


def _parts(
    name: str, task: Task, spec: TensorSpec, samples: Mapping[str, Samples], unlabelled: InputRows | None
) -> Parts:
    return Parts(
        name=name,
        task=replace(task, inputs=(spec,)),  # type: ignore[type-var]
        train=samples["train"],
        validation=samples["validation"],
        test=samples.get("test") or no_samples(samples["train"]),
        numeric=(),
        augmentation=NoAugmentation(),
        unlabelled=unlabelled,
    )


def padded(rows: Sequence[Sequence[int]]) -> NDArray[np.int32]:
    """Return ids int32 (N, T), with 0 behind those of shorter samples.

    >>> padded([[5, 3], [7]]).tolist()
    [[5, 3], [7, 0]]
    """
    ids = np.zeros((len(rows), max(map(len, rows), default=1)), dtype=np.int32)
    for row, values in zip(ids, rows, strict=True):
        row[: len(values)] = values
    return ids


def checked_texts(texts: Sequence[str], split: str, where: str) -> Sequence[str]:
    """Return the texts; RequestError if there are none, or if one is no string of valid Unicode."""
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
