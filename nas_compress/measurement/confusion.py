"""Confusion counts of a classifier: counted once, kept in its record as text, read by the report."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from nas_compress.errors import RequestError
from nas_compress.tasks.batch import Arrays
from nas_compress.tasks.task import Task

MOST_CLASSES = 100
"""Largest number of classes whose counts are kept, because they grow with its square."""

Counts = NDArray[np.int64]

_ROW = re.compile(r"[0-9]{1,12}(?: [0-9]{1,12})*")


def confusion_rows(task: Task, outputs: Arrays, targets: Arrays) -> tuple[str, ...]:
    """Count the answers of a split, as one string of numbers per label; empty for other tasks.

    outputs, targets: of the whole split. A row belongs to a label, a column to an answer. Samples without a label
    among the classes are left out.

    >>> from nas_compress.tasks.classification import Classification
    >>> task = Classification.of_images(shape=(1, 8, 8), classes=2)
    >>> logits = np.array([[2.0, 1.0], [0.0, 1.0], [5.0, 3.0]], dtype=np.float32)
    >>> confusion_rows(task, {"logits": logits}, {"label": np.array([0, 1, 1])})
    ('1 0', '1 1')
    """
    classes = task.classes
    if classes is None or classes > MOST_CLASSES:
        return ()
    try:
        logits = task.logits({name: torch.from_numpy(values) for name, values in outputs.items()}).numpy()
        wanted = task.labels({name: torch.from_numpy(values) for name, values in targets.items()}).numpy()
    except RequestError:  # a user's task may have classes without logits; the counts must not end its study
        return ()
    if logits.ndim != 2 or wanted.shape != logits.shape[:1]:
        return ()
    answers = logits.argmax(axis=1)
    known = (wanted >= 0) & (wanted < classes) & (answers < classes)
    counts = np.bincount(wanted[known] * classes + answers[known], minlength=classes * classes)
    return tuple(" ".join(map(str, row)) for row in counts.reshape(classes, classes).tolist())


def read_rows(rows: Sequence[object]) -> Counts | None:
    """Return the counts (classes, classes) of `confusion_rows`; None if the rows are no square of numbers."""
    if not 0 < len(rows) <= MOST_CLASSES or not all(isinstance(row, str) and _ROW.fullmatch(row) for row in rows):
        return None
    numbers = [[int(number) for number in str(row).split(" ")] for row in rows]
    if any(len(line) != len(rows) for line in numbers):
        return None
    return np.array(numbers, dtype=np.int64)
