"""Confusion matrices of members on the validation split, from their files."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from nas_compress.data.dataset import Dataset, Split
from nas_compress.data.load_dataset import load_dataset
from nas_compress.errors import NasCompressError, describe, first_line
from nas_compress.measurement.predictions import predict
from nas_compress.runs.folder import RunFolder
from nas_compress.tasks.batch import to_arrays
from nas_compress.tasks.task import Task
from nas_compress.values.point import Point

TIME_LIMIT_S = 8.0
"""Time for the matrices of all members together."""

Counts = NDArray[np.int64]


def confusions(folder: RunFolder, points: Iterable[Point]) -> tuple[dict[int | str, Counts], str]:
    """Counts (true class, answered class) by trial, and the reason for missing ones, empty if all are there."""
    try:
        dataset = _dataset(folder)
    except (NasCompressError, OSError) as error:
        return {}, f"the data cannot be loaded: {first_line(error)}"
    classes = dataset.task.classes
    if classes is None:
        return {}, f"the task {dataset.task.name} has no classes"
    end, found, why = time.monotonic() + TIME_LIMIT_S, dict[int | str, Counts](), ""
    for point in points:
        if time.monotonic() > end:
            return found, f"only the first {len(found)} were computed, to keep the report quick"
        try:
            found[point.trial] = confusion(folder.root / point.model, dataset.validation, dataset.task, classes)
        except (NasCompressError, OSError) as error:
            why = f"trial {point.trial}: {describe(error)}"
    return found, why


def confusion(model: Path, samples: Split, task: Task, classes: int) -> Counts:
    """Counts (classes, classes) of the answers of a file: rows are labels, columns are answers."""
    outputs = predict(model, to_arrays(samples.inputs))
    logits = task.logits({name: torch.from_numpy(values) for name, values in outputs.items()})
    counts = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(counts, (task.labels(samples.targets).numpy(), logits.argmax(dim=1).numpy()), 1)
    return counts


def _dataset(folder: RunFolder) -> Dataset:
    data = folder.spec().data
    return load_dataset(
        name=data.name,
        factory=data.factory,
        folder=Path(folder.about()["study_folder"]),
        seed=data.seed,
        shift=data.shift,
        flip=data.flip,
        train_samples=data.train_samples,
    )
