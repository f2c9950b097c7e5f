"""Ensemble of the generations of a born-again student, as a figure to compare with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nas_compress.data.dataset import Split
from nas_compress.files import write_json
from nas_compress.measurement.pipeline import Stopwatch
from nas_compress.measurement.predictions import predict
from nas_compress.tasks.batch import Arrays, to_arrays, to_rows
from nas_compress.tasks.task import Task


def write_ensemble(
    earlier: Sequence[nn.Module],
    student: Path,
    *,
    write: Callable[[nn.Module, Path], nn.Module],
    validation: Split,
    task: Task,
    watch: Stopwatch,
) -> None:
    """Write `generation-1.onnx`, ... next to the student's file, and the ensemble's figures to `ensemble.json`.

    write: writes one network in the student's precision. The ensemble averages the softmax of the logits of all
    files, including the student's; other outputs are averaged as they are. Its size is the sum of theirs.
    """
    files = [student.with_name(f"generation-{number}.onnx") for number in range(1, len(earlier) + 1)]
    for network, path in zip(earlier, files, strict=True):
        write(network.cpu(), path)
    files.append(student)
    inputs = to_rows(validation.inputs)
    with watch.stage("ensemble"):
        members = [_answers(predict(path, inputs), task) for path in files]
        together = {name: np.mean([member[name] for member in members], axis=0) for name in members[0]}
        metrics = task.measure(together, to_arrays(validation.targets))
    write_json(
        student.with_name("ensemble.json"),
        {
            "kind": "ensemble of generations",
            "average": "output" if task.classes is None else "probability",
            "members": [path.name for path in files],
            **metrics,
            "size_bytes": sum(path.stat().st_size for path in files),
        },
    )


def _answers(outputs: Arrays, task: Task) -> Arrays:
    """Return the outputs of one file, with the softmax of the logits if one output is the task's logits."""
    if task.classes is None:
        return outputs
    tensors = {name: torch.from_numpy(values) for name, values in outputs.items()}
    logits = task.logits(tensors)
    return {name: _softmax(values) if tensors[name] is logits else values for name, values in outputs.items()}


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    powers: NDArray[np.float64] = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    powers /= powers.sum(axis=1, keepdims=True)
    return powers
