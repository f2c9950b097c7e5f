"""Splits of a folder with a folder for each class: its own ones, or drawn for each class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas_compress.callbacks import Notice, Progress
from nas_compress.data.array_conversion import as_input
from nas_compress.data.assemble import Samples, subset
from nas_compress.data.store.build import stored_or_read
from nas_compress.data.store.pictures import PICTURES, FileKind, Listing, class_folders, list_files
from nas_compress.data.store.source import Source
from nas_compress.data.stratified_split import VALIDATION_SHARE, stratified_split
from nas_compress.data.targets import LEAST_PER_CLASS
from nas_compress.errors import refusal
from nas_compress.tasks.classification import LABEL
from nas_compress.values.file_constants import INPUT_NAME

NAMES: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
"""Folder names of splits, in small letters."""


@dataclass(frozen=True, kw_only=True)
class ClassFolders:
    """A folder that was found. root: its path. splits: files by split, only `train` if it has no splits."""

    root: Path
    splits: Mapping[str, Listing]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes of the training files, sorted."""
        return tuple(sorted(set(self.splits["train"].classes)))

    @property
    def files(self) -> tuple[str, ...]:
        """Paths of all files below the root, split by split."""
        return tuple(file for each in self.splits.values() for file in each.files)

    @property
    def labels(self) -> tuple[int, ...]:
        """Numbers of the classes of `files`."""
        number = {known: label for label, known in enumerate(self.class_names)}
        return tuple(number[known] for each in self.splits.values() for known in each.classes)

    @property
    def states(self) -> tuple[str, ...]:
        """States of `files`, which change with their contents."""
        return tuple(state for each in self.splits.values() for state in each.states)


def find_folder(folder: str, *, base: Path | None, where: str, kind: FileKind = PICTURES) -> ClassFolders:
    """Find a folder with a folder for each class and list its files, without decoding any.

    base: place of a relative path; then the working folder. RequestError if there is no such folder, or if it has no
    folders of classes.
    """
    root = folder_of_files(folder, base=base)
    if root is None:
        looked = " and ".join(map(str, _places(folder, base)))
        raise refusal(f"folder must be a folder of {kind.plural}, but there is none at {looked}", where)
    found: dict[str, str] = {}
    names = class_folders(root)
    for name in names:
        split = next((split for split, known in NAMES.items() if name.lower() in known), None)
        if split is not None:
            found[split] = name
    divided = "train" in found and len(found) == len(names) and bool(class_folders(root / found["train"]))
    if not divided and "train" in found and class_folders(root / found["train"]):
        splits_of = [name for name in names if any(name.lower() in known for known in NAMES.values())]
        if len(splits_of) > 1:
            more = next((name for name in names if name not in found.values()), names[-1])
            rule = "folders of splits must be one each of train, validation and test, without others"
            raise refusal(f"{rule}, but got {', '.join(splits_of[:4])} and {more} in {root}; move it away", where)
    places_of = {split: found[split] for split in NAMES if split in found} if divided else {"train": ""}
    splits = {split: list_files(root, name, where, kind).in_random_order() for split, name in places_of.items()}
    _require_classes(splits, where)
    return ClassFolders(root=root, splits=splits)


def folder_of_files(folder: str, *, base: Path | None) -> Path | None:
    """Return the path of a folder that `base` or the working folder holds; None if there is none."""
    return next((place for place in _places(folder, base) if place.is_dir()), None)


def _places(folder: str, base: Path | None) -> list[Path]:
    return list(dict.fromkeys(place.absolute() / folder for place in (base or Path(), Path())))


def stored_splits(
    folder: ClassFolders,
    source: Source,
    *,
    key: str,
    name: str,
    kind: str,
    where: str,
    progress: Progress,
    notice: Notice,
) -> dict[str, Samples]:
    """Return the samples of the folder's own splits from a store, which is made if it is missing.

    source: of the folder's files. key, name: of the store, see `stored_or_read`. kind: of the files, for the notice
    about others.
    """
    others = [file for each in folder.splits.values() for file in each.others]
    if others:
        notice(f"{len(others)} files in {folder.root} are no {kind} and are left out, such as {others[0]}")
    stored = stored_or_read(source, source.open(), key=key, name=name, where=where, progress=progress, notice=notice)
    ends = [0, *accumulate(len(each) for each in folder.splits.values())]
    given: dict[str, Samples] = {}
    for split, (start, end) in zip(folder.splits, pairwise(ends), strict=True):
        rows = as_input(stored.samples[start:end], split, where, identity=f"{stored.identity} {start}")
        given[split] = {INPUT_NAME: rows}, {LABEL: stored.targets[start:end]}
    return given


def divided(given: Mapping[str, Samples], *, seed: int) -> dict[str, Samples]:
    """Return all three splits; missing ones are drawn from the training samples, for each class."""
    missing = [split for split in ("validation", "test") if split not in given]
    labels: NDArray[np.int64] = given["train"][1][LABEL]
    count = max(1, round(VALIDATION_SHARE * len(labels)))
    counts = [*[count] * len(missing), len(labels) - count * len(missing)]
    parts = stratified_split(labels, counts=counts, seed=seed)
    drawn = {split: subset(given["train"], index) for split, index in zip([*missing, "train"], parts, strict=True)}
    return {**given, **drawn} if missing else dict(given)


def _require_classes(splits: Mapping[str, Listing], where: str) -> None:
    known = set(splits["train"].classes)
    if len(known) < 2:
        raise refusal(f"folder must hold at least 2 folders of classes, but got {', '.join(known)}", where)
    for split, listing in splits.items():
        different = sorted(set(listing.classes) ^ known)
        if different:
            raise refusal(f"every split must hold the classes of train, but {different[0]} differs in {split}", where)


def require_samples(
    samples: Mapping[str, Samples], names: tuple[str, ...], where: str, kind: FileKind = PICTURES
) -> None:
    """Raise RequestError if train or validation lacks a class. names: of the classes."""
    for split in ("train", "validation"):
        targets = samples[split][1]
        counts = np.bincount(targets[LABEL], minlength=len(names))
        if counts.min() < LEAST_PER_CLASS:
            rule = f"{split} must have at least {LEAST_PER_CLASS} {kind.singular} of each class"
            found = f"{counts.min()} of {names[int(counts.argmin())]!r}"
            raise refusal(f"{rule}, but got {found}; add {kind.plural} of this class", where)
