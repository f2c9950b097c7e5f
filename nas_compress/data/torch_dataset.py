"""Map-style data sets of torch and of Hugging Face, read once into a store of the cache."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset as TorchDataset

from nas_compress.callbacks import Notice, Progress
from nas_compress.data.array_conversion import as_array, kind_of
from nas_compress.data.store.build import stored_or_read
from nas_compress.data.store.identity import digest_of_object, digest_of_pairs
from nas_compress.data.store.layout import Stored
from nas_compress.data.store.source import Pair
from nas_compress.errors import describe, refusal
from nas_compress.user_code import user_callable

READ_TWICE = 8
"""Samples that are read twice at each loading, to find random values and changed data."""

LABEL_NAMES = ("label", "labels", "target", "targets", "fine_label", "class")
"""Columns that hold the target of a sample."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Place of a data set: a split in the mapping that a function of the user returns.

    folder: first place on sys.path. where: the study file's key, for errors.
    """

    factory: str
    folder: Path | None
    split: str
    where: str


def is_dataset(value: object) -> bool:
    """Return True for a map-style data set of torch or of Hugging Face."""
    return isinstance(value, TorchDataset) or (
        type(value).__module__.partition(".")[0] == "datasets" and hasattr(value, "features")
    )


def class_names_of(value: Any) -> tuple[str, ...]:
    """Return the names of the classes that a data set of torchvision or Hugging Face has, in order; else nothing."""
    features = getattr(value, "features", None)
    labels = [features[name] for name in LABEL_NAMES if name in features] if isinstance(features, Mapping) else []
    names = getattr(labels[0], "names", None) if labels else getattr(value, "classes", None)
    if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names):
        return tuple(names)
    return ()


def read_dataset(value: object, origin: Origin, *, progress: Progress, notice: Notice) -> Stored:
    """Return all samples (N, ...) and targets (N, ...) of a data set of (sample, target), from its store.

    Floats that are bytes divided by 255 become bytes again. RequestError if samples have several shapes, or if a
    sample differs at a second reading.
    """
    reader = DatasetReader(value, origin)
    probes = reader.probes()
    source = FactorySource(origin, digest_of_pairs(probes))
    held = hashlib.sha256(f"1 {origin.factory} {origin.split} {len(reader)} {source.probes}".encode())
    held.update(digest_of_object(value).encode())
    return stored_or_read(
        source,
        reader,
        key=held.hexdigest()[:16],
        name=origin.split,
        where=origin.where,
        progress=progress,
        notice=notice,
    )


class DatasetReader:
    """Samples of a data set as arrays."""

    def __init__(self, dataset: Any, origin: Origin) -> None:
        self._dataset, self._origin = dataset, origin
        self._count = _length(dataset, origin.split, origin.where)

    def __len__(self) -> int:
        return self._count

    def read(self, index: int) -> Pair:
        """Return a sample and its target; RequestError if there is none."""
        return _item(self._dataset, index, self._origin.split, self._origin.where)

    def probes(self) -> list[Pair]:
        """Return a few samples over the whole data set; RequestError if one differs at a second reading."""
        chosen = np.linspace(0, self._count - 1, min(READ_TWICE, self._count)).astype(int).tolist()
        first = [self.read(index) for index in chosen]
        for index, pair in zip(chosen, first, strict=True):
            if digest_of_pairs([self.read(index)]) != digest_of_pairs([pair]):
                raise refusal(
                    f"a data set must return the same values for the same index, but {self._origin.split}[{index}] "
                    "differs at a second reading; return the plain samples and name the random changes by "
                    "[data] augment",
                    self._origin.where,
                )
        return first


@dataclass(frozen=True)
class FactorySource:
    """A data set that each process makes by the same function. probes: digest of a few of its samples."""

    origin: Origin
    probes: str

    def open(self) -> DatasetReader:
        """Call the function and return a reader; RequestError if it returns other data than before."""
        origin = self.origin
        with user_callable(origin.factory, folder=origin.folder, where=origin.where) as function:
            returned: Any = function()
            reader = DatasetReader(returned[origin.split], origin)
            if digest_of_pairs(reader.probes()) != self.probes:
                raise refusal(
                    f"{origin.factory}() must return the same data at each call, but {origin.split} differs at a "
                    "second call; give its random numbers a seed",
                    origin.where,
                )
        return reader


def _length(dataset: Any, split: str, where: str) -> int:
    try:
        samples = len(dataset)
    except Exception as error:
        raise refusal(f"{split} must have a length, but len() raised {describe(error)}", where) from error
    if samples == 0:
        raise refusal(f"{split} must not be empty, but got a Dataset of length 0", where)
    return samples


def _item(dataset: Any, index: int, split: str, where: str) -> Pair:
    place = f"{split}[{index}]"
    try:
        item = dataset[index]
    except Exception as error:
        raise refusal(f"{place} must be a sample, but reading it raised {describe(error)}", where) from error
    if isinstance(item, Mapping):
        item = _pair_of(item, place, where)
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise refusal(f"{place} must be a pair (sample, label), but got {kind_of(item)}", where)
    target = item[1].detach().cpu().numpy() if isinstance(item[1], torch.Tensor) else item[1]
    if isinstance(target, dict):
        raise refusal(
            f"{place} must have a label, but got a mapping ({', '.join(map(str, list(target)[:3]))}); "
            "detection is not supported",
            where,
        )
    array = np.asarray(target)
    if array.dtype.kind not in "iufbU":
        raise refusal(f"labels must be integers, numbers or words, but got {kind_of(item[1])} at {place}", where)
    sample = _sample(item[0], place, where)
    if sample.dtype.kind not in "biuf":
        raise refusal(f"{place} must be numbers, but got {sample.dtype}", where)
    if sample.size == 0:
        raise refusal(f"{place} must not be empty, but got a sample of shape {sample.shape}", where)
    return sample, array


def _pair_of(row: Mapping[Any, Any], place: str, where: str) -> tuple[Any, Any]:
    """Return the sample and the target of a row with named columns."""
    labels = [name for name in row if name in LABEL_NAMES]
    inputs = [name for name in row if name not in LABEL_NAMES]
    if len(labels) != 1 or len(inputs) != 1:
        raise refusal(
            f"{place} must have one input and one label (a column named {', '.join(LABEL_NAMES[:3])}), but got "
            f"columns {', '.join(map(str, row)) or 'none'}; remove or rename the others",
            where,
        )
    return row[inputs[0]], row[labels[0]]


def _sample(value: Any, place: str, where: str) -> NDArray[Any]:
    if type(value).__module__.startswith("PIL."):
        return _picture(value, place, where)
    if isinstance(value, np.generic | int | float):
        return np.asarray(value).reshape(1)
    return as_array(value, place, where)


def _picture(picture: Any, place: str, where: str) -> NDArray[np.uint8]:
    if picture.mode not in ("L", "RGB"):
        remedy = 'return picture.convert("RGB")'
        raise refusal(f"{place} must be a picture of mode L or RGB, but got {picture.mode}; {remedy}", where)
    array = np.asarray(picture, dtype=np.uint8)
    return array if array.ndim == 2 else array.transpose(2, 0, 1)
