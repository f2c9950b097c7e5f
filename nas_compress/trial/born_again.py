"""Ensemble of the generations of a born-again student, as a figure to compare with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from nas_compress.data.dataset import Split
from nas_compress.files import write_json
from nas_compress.measurement.pipeline import Stopwatch
from nas_compress.measurement.predictions import predict
from nas_compress.tasks.batch import to_arrays


def write_ensemble(
    earlier: Sequence[nn.Module],
    student: Path,
    *,
    write: Callable[[nn.Module, Path], nn.Module],
    validation: Split,
    watch: Stopwatch,
) -> None:
    """Write `generation-1.onnx`, ... next to the student's file, and the ensemble's figures to `ensemble.json`.

    write: writes one network in the student's precision. The ensemble averages the softmax outputs of all files,
    including the student's; its size is the sum of theirs.
    """
    files = [student.with_name(f"generation-{number}.onnx") for number in range(1, len(earlier) + 1)]
    for network, path in zip(earlier, files, strict=True):
        write(network.cpu(), path)
    files.append(student)
    inputs, labels = to_arrays(validation.inputs), to_arrays(validation.targets)["label"]
    with watch.stage("ensemble"):
        probabilities = np.mean([_softmax(predict(path, inputs)["logits"]) for path in files], axis=0)
    write_json(
        student.with_name("ensemble.json"),
        {
            "kind": "ensemble of generations",
            "average": "probability",
            "members": [path.name for path in files],
            "accuracy": float((probabilities.argmax(axis=1) == labels).mean()),
            "size_bytes": sum(path.stat().st_size for path in files),
        },
    )


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    powers: NDArray[np.float64] = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    powers /= powers.sum(axis=1, keepdims=True)
    return powers
