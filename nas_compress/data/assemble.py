"""Build a Dataset from arrays: training subset, normalisation and fingerprint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from nas_compress.data.audio.spectrogram import spectrogram_normalisation
from nas_compress.data.augment.protocol import Augmentation
from nas_compress.data.dataset import Dataset, HeldOutSplit, Split
from nas_compress.data.input_statistics import input_normalisation
from nas_compress.data.own_preparation import prepared_normalisation
from nas_compress.data.stratified_split import stratified_subset
from nas_compress.errors import RequestError, refusal
from nas_compress.tasks.batch import Arrays, InputRows, to_tensors, token_names
from nas_compress.tasks.classification import IMAGES, LABEL, Classification
from nas_compress.tasks.memory_map import MappedRows, Rows, pieces_of, rows_at
from nas_compress.tasks.task import Task
from nas_compress.values.file_constants import INPUT_NAME
from nas_compress.values.normalisation import Normalisation
from nas_compress.values.signature import TensorSpec

Samples: TypeAlias = tuple[InputRows, Arrays]
"""Inputs and targets of a split, by name; inputs may be in a memory map."""

Images: TypeAlias = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""Images uint8 (N, C, H, W) and labels int64 (N,)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
    """Splits as arrays, before the training subset is taken.

    numeric: inputs to normalise; the others, such as word numbers, are used as they are.
    unlabelled: inputs of further training samples without a label, None if there are none.
    augmentation: of a task of the user; None for images: the study file chooses theirs.
    """

    name: str
    task: Task
    train: Samples
    validation: Samples
    test: Samples
    numeric: tuple[str, ...]
    augmentation: Augmentation | None = None
    unlabelled: InputRows | None = None


def image_parts(*, name: str, classes: int, train: Images, validation: Images, test: Images) -> Parts:
    """The parts of a data set of labelled images."""
    channels, height, width = train[0].shape[1:]
    return Parts(
        name=name,
        task=Classification.of_images(shape=(channels, height, width), classes=classes),
        train=_named(train),
        validation=_named(validation),
        test=_named(test),
        numeric=(INPUT_NAME,),
    )


def assemble(parts: Parts, *, augmentation: Augmentation, where: str, prepare: str | None = None) -> Dataset:
    """Build the Dataset; RequestError if the augmentation or constant inputs are impossible.

    where: the study file's key, for errors. prepare: name of the user's own module before the normalisation, see
    `load_preparation`.
    """
    if prepare is not None and not (len(parts.task.signature.inputs) == len(parts.numeric) == 1):
        got = ", ".join(spec.name for spec in parts.task.signature.inputs)
        raise refusal(f"preprocess needs one input of numbers, but got {got}; prepare the samples before", where)
    if prepare is not None and parts.task.signature.inputs[0].log_mel is not None:
        raise refusal("preprocess needs numbers of one scale, but got sounds; prepare the files before", where)
    normalisation = {}
    for name in parts.numeric:
        values, spec = parts.train[0][name], parts.task.signature.input(name)
        normalisation[name] = (
            _normalisation(values, spec, where=where)
            if prepare is None
            else prepared_normalisation(prepare, values, per_channel=_has_channels(spec), where=where)
        )
    train, validation, test = (
        (to_tensors(inputs), to_tensors(targets)) for inputs, targets in (parts.train, parts.validation, parts.test)
    )
    tokens = token_names(parts.task.signature.inputs)
    try:
        return Dataset(
            name=parts.name,
            task=parts.task,
            train=Split(name="train", inputs=train[0], targets=train[1], tokens=tokens),
            validation=Split(name="validation", inputs=validation[0], targets=validation[1], tokens=tokens),
            test=HeldOutSplit(inputs=test[0], targets=test[1], tokens=tokens),
            normalisation={**normalisation, **parts.task.output_normalisation},
            augmentation=augmentation,
            fingerprint=fingerprint(parts, augmentation, prepare),
        )
    except RequestError as error:
        raise refusal(str(error), where) from error


def _normalisation(values: Rows, spec: TensorSpec, *, where: str) -> Normalisation:
    plain = input_normalisation(values, per_channel=_has_channels(spec), where=where)
    return plain if spec.log_mel is None else spectrogram_normalisation(values, spec.log_mel)


def strata(task: Task, samples: Samples) -> NDArray[np.int64]:
    """Return the labels for a stratified division; all 0 if the task has no classes."""
    inputs, targets = samples
    if task.classes is None:
        return np.zeros(len(next(iter(inputs.values()))), dtype=np.int64)
    labels: NDArray[np.int64] = task.labels(to_tensors(targets)).numpy()
    return labels


def subset(samples: Samples, index: NDArray[np.int64]) -> Samples:
    """Return the samples at an index."""
    inputs, targets = samples
    return {name: rows_at(values, index) for name, values in inputs.items()}, {
        name: values[index] for name, values in targets.items()
    }


def no_samples(samples: Samples) -> Samples:
    """Return an empty split of the same tensors, in place of a missing test split."""
    return subset(samples, np.empty(0, dtype=np.int64))


def fingerprint(parts: Parts, augmentation: Augmentation, prepare: str | None = None) -> str:
    """Return 16 hexadecimal digits over training and validation contents, their division and the augmentation.

    prepare: see `assemble`.
    """
    digest = hashlib.sha256(f"{augmentation.identity} {_described(parts.task)}".encode())
    if prepare is not None:
        digest.update(prepare.encode())
    for spec in parts.task.signature.inputs:
        if spec.pieces is not None:
            digest.update(json.dumps(spec.pieces.metadata()).encode())
    for inputs, targets in (parts.train, parts.validation):
        for values in inputs.values():
            digest.update(f"{values.shape}".encode())
            for piece in _contents(values):
                digest.update(piece)
        for values in targets.values():
            wide = values.dtype.kind in "iu"
            digest.update(np.ascontiguousarray(values, dtype="<i8" if wide else None).data)
    return digest.hexdigest()[:16]


def _described(task: Task) -> str:
    # The fingerprint is part of the name under which teachers are stored: classes alone were enough for images.
    if task.name == IMAGES:
        return str(task.classes)
    return json.dumps([task.name, task.signature.to_dict()])


def with_fewer(parts: Parts, count: int, *, seed: int, where: str) -> Parts:
    """Return the parts with a stratified subset of `count` training samples, drawn from `seed`."""
    samples, classes = len(next(iter(parts.train[0].values()))), parts.task.classes
    least = classes or 1
    if not least <= count <= samples:
        smallest = f"{least} (classes)" if classes else "1"
        rule = f"{smallest} <= train_samples <= {samples} (there are) must hold"
        raise refusal(f"{rule}, but got train_samples={count}", where)
    return replace(
        parts, train=subset(parts.train, stratified_subset(strata(parts.task, parts.train), count=count, seed=seed))
    )


def _has_channels(spec: TensorSpec) -> bool:
    """Return True if dimension 1 has a fixed size; statistics of free positions are taken together."""
    return len(spec.shape) > 1 and isinstance(spec.shape[1], int)


def _named(images: Images) -> Samples:
    return {INPUT_NAME: images[0]}, {LABEL: images[1]}


def _contents(values: Rows) -> Iterator[memoryview | bytes]:
    """Return the bytes of an input in pieces, or the identity of a memory map with the order of its rows."""
    if isinstance(values, MappedRows) and values.identity is not None:
        yield values.identity.encode()
        yield b"" if values.index is None else values.index.astype("<i8").tobytes()
        return
    for piece in pieces_of(values):
        yield np.ascontiguousarray(piece).data
