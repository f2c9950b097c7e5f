"""Number of worker processes that fit the cores and the memory of this machine."""

from __future__ import annotations

from typing import Literal

import joblib
import psutil

from nas_compress.data.dataset import Dataset
from nas_compress.errors import RequestError
from nas_compress.tasks.batch import Batch
from nas_compress.tasks.memory_map import MappedTensor

AUTO: Literal["auto"] = "auto"
"""Take as many workers as there are physical cores, if the memory permits it."""

PROCESS_BYTES = 700_000_000
"""Memory of one worker besides its data: torch, onnxruntime, a teacher and a student in training."""

COPIES = 3
"""Copies of the data in the memory of one worker: as read, as tensors, and as the batches and views of a training."""


def worker_count(asked: int | Literal["auto"], *, trials: int, dataset: Dataset, device: str) -> int:
    """Return the number of workers: at least 1, at most one for each trial left.

    asked: a number, or AUTO for one per physical core that this process may use, as far as the available memory
    permits. AUTO is 1 if a trial trains on another device than the CPU, because workers would share it.
    trials: number of trials left.
    RequestError if the asked number needs more memory than is available.
    """
    need = worker_bytes(dataset)
    available: int = psutil.virtual_memory().available
    fitting = available // need
    if asked == AUTO:
        cores: int = joblib.cpu_count(only_physical_cores=True) if device == "cpu" else 1
        return max(1, min(cores, fitting, trials))
    count = min(asked, trials)
    if count > max(1, fitting):
        raise RequestError(
            f"--workers x {need / 1e9:.1f} GB <= available memory ({available / 1e9:.1f} GB) must hold, but got "
            f"--workers {asked}; use --workers {max(1, fitting)}, or --workers auto"
        )
    return max(1, count)


def worker_bytes(dataset: Dataset) -> int:
    """Return the memory that one worker needs. Samples in the mapped store are shared by all and count as nothing."""
    splits = (split for each in (dataset, *dataset.sizes.values()) for split in (each.train, each.validation))
    held = sum(_held(batch) for split in splits for batch in (split.inputs, split.targets))
    return PROCESS_BYTES + COPIES * held


def _held(batch: Batch) -> int:
    return sum(tensor.nbytes for tensor in batch.values() if not isinstance(tensor, MappedTensor))
