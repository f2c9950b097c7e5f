"""Columns of a file of texts, guessed from its first rows."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from statistics import mean

from nas_compress.data.dataset import Dataset
from nas_compress.data.text.parts import TextSettings
from nas_compress.data.text.tables import Column, TextFiles
from nas_compress.data.text.vocabulary import DEFAULT_LONGEST
from nas_compress.errors import first_line, refusal
from nas_compress.search.starter.encoders import encoder_ids
from nas_compress.search.starter.templates import OF_HASHES, OF_PIECES, OF_TEXTS
from nas_compress.values.file_constants import INPUT_NAME

TEST_SHARE = 0.15
"""Share of the samples in the test split."""

PROBED = 2_000
"""Rows that are looked at."""

BUCKETS = 8_000
"""Ids of hashed words."""

LABELS = ("label", "class", "category", "target", "sentiment", "topic", "stars", "rating")
"""Usual names of the column of labels, the first that is there is taken."""

LEAST_WORDS = 3
"""Words of a text, on average, from which a column holds texts."""

LONGEST_NAME = 40
"""Letters of a column's name."""


def guessed_columns(path: Path, *, where: str) -> TextFiles:
    """Return the file with the columns of its texts and labels.

    Labels are in a column with a usual name, or in the one with the fewest values. All other columns of several words
    are texts, or the one with the longest values. A first row of short cells without digits, none of which its column
    repeats, has names.
    RequestError in one line if there is no column of labels or of texts, or the file cannot be read.
    """
    columns = _columns(path, where)
    label = _label(columns)
    if label is None:
        raise refusal(f"one column must hold labels, with 2 values or more and each twice, but {path} has none", where)
    words = {name: mean(len(value.split()) for value in values) for name, values in columns.items() if name != label}
    texts = [name for name, count in words.items() if count >= LEAST_WORDS]
    if not texts and words:
        texts = [max(words, key=lambda name: mean(map(len, columns[name])))]
    if not texts:
        raise refusal(f"a file of texts must have columns for texts and for labels, but {path} has one", where)
    return TextFiles(path=str(path.absolute()), text=tuple(texts), label=label, test_share=TEST_SHARE)


def starter_settings() -> TextSettings:
    """Return settings of word pieces, or of hashed words if `tokenizers` is not installed."""
    return TextSettings() if find_spec("tokenizers") is not None else TextSettings(buckets=BUCKETS)


def texts_text(files: TextFiles, *, path: str, settings: TextSettings, of_encoder: bool) -> str:
    """Return the section `[data]` of texts.

    path: of the file, as a string of TOML. of_encoder: the teacher is an encoder with word pieces of its own.
    """
    ids = OF_PIECES if settings.buckets is None else OF_HASHES.format(buckets=settings.buckets)
    return OF_TEXTS.format(
        path=path,
        text=json.dumps([*files.text], ensure_ascii=False),
        label=json.dumps(files.label, ensure_ascii=False),
        share=TEST_SHARE,
        ids=encoder_ids() if of_encoder else ids,
        longest=settings.longest or DEFAULT_LONGEST,
    )


def mean_length(dataset: Dataset) -> int:
    """Return the mean number of word pieces or words of the training texts, at least 1."""
    words = dataset.task.signature.input(INPUT_NAME).words
    found = float(dataset.train.inputs[INPUT_NAME].count_nonzero(dim=1).float().mean())
    return max(1, round(found if words is None else found / words.spacing))


def _columns(path: Path, where: str) -> Mapping[Column, Sequence[str]]:
    """Return the values of each column as text, by its name or by its number from 1."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix == ".jsonl":
                rows = [json.loads(line) for line in islice(file, PROBED) if line.strip()]
                names = [name for name in (rows[0] if rows else {}) if all(name in row for row in rows)]
                return {name: [str(row[name]) for row in rows] for name in names}
            delimiter = "\t" if path.suffix == ".tsv" else ","
            table = [row for row in islice(csv.reader(file, delimiter=delimiter, strict=True), PROBED) if row]
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise refusal(f"{path} must be a table of texts in UTF-8, but got {first_line(error)}", where) from error
    if not table:
        raise refusal(f"{path} must hold samples, but is empty", where)
    first, *others = table
    again = any(name in {row[place] for row in others if place < len(row)} for place, name in enumerate(first))
    named = len(others) > 0 and not again and len(set(first)) == len(first) and all(map(_is_name, first))
    heads: Sequence[Column] = first if named else range(1, len(first) + 1)
    rows_of = [row for row in (others if named else table) if len(row) == len(first)]
    return {head: [row[place] for row in rows_of] for place, head in enumerate(heads)} if rows_of else {}


def _is_name(cell: str) -> bool:
    return 0 < len(cell) <= LONGEST_NAME and len(cell.split()) < LEAST_WORDS and not cell[0].isdigit()


def _label(columns: Mapping[Column, Sequence[str]]) -> Column | None:
    """Return the column of labels, None if there is none."""
    distinct = {name: len(set(values)) for name, values in columns.items()}
    fitting = {name: count for name, count in distinct.items() if 2 <= count <= len(columns[name]) / 2}
    usual = {str(name).lower(): name for name in fitting}
    found = next((usual[name] for name in LABELS if name in usual), None)
    return found if found is not None else min(fitting, key=lambda name: fitting[name], default=None)
