"""Texts and labels from CSV files, tab-separated files and JSON lines."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_compress.data.stratified_split import stratified_split
from nas_compress.data.text.parts import Texts
from nas_compress.errors import first_line, refusal

SUFFIXES = (".csv", ".tsv", ".jsonl")
"""Files that are read: CSV with commas or tabs, and JSON lines."""

SPLIT_NAMES: Mapping[str, tuple[str, ...]] = {
    "train": ("train",),
    "validation": ("validation", "val", "dev"),
    "test": ("test",),
}
"""Names of the file of each split in a folder, without the suffix."""

LARGEST = 1_000_000_000
"""Most bytes of a file."""

Column = str | int
"""Name of a column, or its number from 1 in a CSV file without a row of names."""


@dataclass(frozen=True, kw_only=True)
class TextFiles:
    """A file of texts, or a folder with a file for each split.

    path: a relative one starts at the study's folder, at the working folder, then at the folder NAS_COMPRESS_DATA.
    text: columns of the text, joined by a space. label: column of the target.
    test_share: share of the samples of a single file that is drawn as test split; None for no test split.
    """

    path: str
    text: Sequence[Column] = ("text",)
    label: Column = "label"
    test_share: float | None = None


def read_texts(files: TextFiles, *, base: Path | None, numbers: bool, seed: int, where: str) -> dict[str, Texts]:
    """Return the texts and targets of each split.

    base: first folder of a relative path. numbers: targets are floats to predict; otherwise whole numbers from 0 are
    classes, and all other labels are words. RequestError in one line for a file that cannot be used.
    """
    if files.label in files.text:
        raise refusal(f"the column of labels must not be one of texts, but got {files.label!r} in both", where)
    path = _find(files.path, base, where)
    if path.is_file():
        texts, labels = _read(path, files.text, files.label, where)
        parts = _divided(labels, files.test_share, seed, where)
        tables = {split: ([texts[i] for i in index], [labels[i] for i in index]) for split, index in parts.items()}
    else:
        if files.test_share is not None:
            raise refusal(f"test_share needs one file of texts, but got the folder {files.path}", where)
        split_files = _split_files(path, where)
        tables = {split: _read(file, files.text, files.label, where) for split, file in split_files.items()}
    texts_only = [label for _, labels in tables.values() for label in labels]
    convert = _converter(texts_only, numbers, files.label, where)
    return {split: (texts, convert(labels)) for split, (texts, labels) in tables.items()}


def read_unlabelled(path: str, columns: Sequence[Column], *, base: Path | None, where: str) -> list[str]:
    """Return the texts of a file whose labels, if it has any, do not count; `columns` and `base` as in `read_texts`.

    RequestError in one line for a file that cannot be used.
    """
    found = _find(path, base, where)
    if not found.is_file():
        raise refusal(f"texts without labels must be in one file, but got the folder {path}", where)
    return _read(found, columns, None, where)[0]


def _find(path: str, base: Path | None, where: str) -> Path:
    chosen = os.environ.get("NAS_COMPRESS_DATA")
    places = [place / path for place in (base, Path(), Path(chosen) if chosen else None) if place is not None]
    for place in places:
        if place.is_dir() or (place.is_file() and place.suffix in SUFFIXES):
            return place
    if any(place.is_file() for place in places):
        raise refusal(f"a file of texts must end in {', '.join(SUFFIXES)}, but got {path}", where)
    looked = ", ".join(dict.fromkeys(str(place.absolute()) for place in places))
    raise refusal(f"texts must be in a file or a folder, but there is none at {looked}", where)


def _split_files(folder: Path, where: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for split, names in SPLIT_NAMES.items():
        files = [folder / f"{name}{suffix}" for name in names for suffix in SUFFIXES]
        there = [file for file in files if file.is_file()]
        if len(there) > 1:
            raise refusal(f"a folder must have one file for {split}, but got {', '.join(map(str, there))}", where)
        if there:
            found[split] = there[0]
    if "train" not in found:
        wanted = ", ".join(f"train{suffix}" for suffix in SUFFIXES)
        raise refusal(f"a folder of texts must hold one of {wanted}, but {folder} holds none", where)
    return found


def _read(path: Path, columns: Sequence[Column], label: Column | None, where: str) -> tuple[list[str], list[Any]]:
    """Return the texts and the labels of a file, as they are stored; no labels if there is no column of them."""
    needed = columns if label is None else (*columns, label)
    try:
        if path.stat().st_size > LARGEST:
            raise refusal(f"a file of texts must have at most {LARGEST} bytes, but got {path}", where)
        content = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise refusal(f"a file of texts must be readable, but got {path}: {error.strerror}", where) from error
    except UnicodeDecodeError as error:
        place = f"byte {error.object[error.start]:#04x} at {error.start}"
        raise refusal(f"texts must be UTF-8, but got {place} of {path}; save the file as UTF-8", where) from error
    longest = csv.field_size_limit(LARGEST)  # a text may be longer than the module's own limit
    try:
        rows = list(_json_rows(content)) if path.suffix == ".jsonl" else list(_table_rows(content, path, needed))
    except (csv.Error, ValueError) as error:
        raise refusal(f"{path} must be a table of texts, but got {first_line(error)}", where) from error
    finally:
        csv.field_size_limit(longest)
    if not rows:
        raise refusal(f"{path} must hold samples, but is empty", where)
    texts, labels = [], []
    for number, row in rows:
        values = [_value(row, column, number, path, where) for column in needed]
        parts = values[: len(columns)]
        wrong = [value for value in parts if not isinstance(value, str)]
        if wrong:
            kind = type(wrong[0]).__name__
            raise refusal(f"texts must be strings, but got {kind} in line {number} of {path}", where)
        texts.append(" ".join(parts))
        labels += [_label(value, number, path, where) for value in values[len(columns) :]]
    return texts, labels


def _table_rows(content: str, path: Path, columns: Sequence[Column]) -> Any:
    """Yield each row by name or by number of its columns, with its line."""
    reader = csv.reader(io.StringIO(content, newline=""), delimiter="\t" if path.suffix == ".tsv" else ",", strict=True)
    names: list[Column] | None = None
    for row in reader:
        if names is None and not all(isinstance(column, int) for column in columns):
            names = [*row] or None  # an empty line before the names
            twice = next((name for name in row if row.count(name) > 1 and name in columns), None)
            if twice is not None:
                raise ValueError(f"several columns named {twice!r} in line {reader.line_num}")
        elif row:
            if names is not None and len(row) > len(names):
                rule = f"{len(row)} columns in line {reader.line_num} for {len(names)} names"
                raise ValueError(f"{rule}; texts with commas need quotes")
            yield reader.line_num, dict(zip(names or range(1, len(row) + 1), row, strict=False))


def _json_rows(content: str) -> Any:
    for number, line in enumerate(content.split("\n"), start=1):
        if line.strip():
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError(f"{type(row).__name__} in line {number}; each line must be an object")
            yield number, row


def _value(row: Mapping[Column, Any], column: Column, number: int, path: Path, where: str) -> Any:
    if column not in row:
        names = ", ".join(map(str, row)) or "none"
        raise refusal(f"columns must be among those of {path} ({names}), but got {column!r} in line {number}", where)
    return row[column]


def _label(value: Any, number: int, path: Path, where: str) -> Any:
    """Return a label without spaces around it; refuse a missing one, which would be a class of its own."""
    label = value.strip() if isinstance(value, str) else value
    if label == "" or not isinstance(label, str | int | float):
        kind = "an empty text" if label == "" else json.dumps(label)
        rule = "labels must be words or numbers"
        raise refusal(f"{rule}, but got {kind} in line {number} of {path}; leave out texts without a label", where)
    return label


def _divided(labels: list[Any], share: float | None, seed: int, where: str) -> dict[str, Sequence[int]]:
    if share is None:
        return {"train": range(len(labels))}
    _, classes = np.unique(np.array([str(label) for label in labels]), return_inverse=True)
    few = len(np.unique(classes)) * 2 <= len(classes)
    count = round(share * len(labels)) if 0 < share < 1 else 0
    if not 0 < count < len(labels):
        raise refusal(f"test_share must leave samples in train and test, but got {share} of {len(labels)}", where)
    strata = classes if few else np.zeros(len(labels), dtype=np.int64)
    test, train = stratified_split(strata, counts=(count, len(labels) - count), seed=seed)
    return {"train": train.tolist(), "test": test.tolist()}


def _converter(labels: Sequence[Any], numbers: bool, column: Column, where: str) -> Any:
    """Return the function that turns the labels of a split into an array."""
    if numbers:
        return lambda given: _floats(given, column, where)
    whole = [_whole(label) for label in labels]
    known = [number for number in whole if number is not None]
    if len(known) == len(labels) and min(known) == 0:
        return lambda given: np.array([_whole(label) for label in given])
    _require_classes(labels, column, where)
    return lambda given: np.array([str(label) for label in given])


def _require_classes(labels: Sequence[Any], column: Column, where: str) -> None:
    """Refuse fractions most of which are different: each would be a class."""
    try:
        numbers = {float(label) for label in labels}
    except ValueError:
        return
    if len(numbers) * 2 > len(labels) > 2 and not all(map(float.is_integer, numbers)):
        example = min(number for number in numbers if not number.is_integer())
        rule = f"column {column!r} must hold classes, but got many numbers such as {example:g}"
        raise refusal(f'{rule}; task = "regression" predicts numbers (kind of one of several tasks)', where)


def _floats(labels: Sequence[Any], column: Column, where: str) -> NDArray[np.float64]:
    try:
        return np.array([float(label) for label in labels])
    except (TypeError, ValueError) as error:
        raise refusal(f"column {column!r} must hold numbers, but got {first_line(error)}", where) from error


def _whole(label: Any) -> int | None:
    if isinstance(label, bool):
        return int(label)
    if isinstance(label, str) and label.strip().isdecimal():
        return int(label)
    return label if isinstance(label, int) else None
