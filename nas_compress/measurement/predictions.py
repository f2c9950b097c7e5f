"""Outputs of a file and the metrics of a task on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from nas_compress.devices.onnx_session import NUMPY_TYPES, FileSession, open_session
from nas_compress.devices.protocol import Answers
from nas_compress.errors import NasCompressError, RequestError, first_line
from nas_compress.tasks.batch import (
    Arrays,
    InputRows,
    by_length,
    fitting,
    require_fitting,
    to_arrays,
    to_tensors,
    token_names,
    unpadded,
)
from nas_compress.tasks.task import Task
from nas_compress.values.exits.settings import EXIT
from nas_compress.values.signature import Signature

BATCH = 256
"""Samples per call of the runtime; limits the memory."""

File: TypeAlias = ort.InferenceSession | Path
"""An open session, or the path of a file."""


def predict(
    file: File,
    inputs: InputRows,
    *,
    signature: Signature | None = None,
    compact: Callable[[Arrays], Arrays] | None = None,
    tokens: Sequence[str] = (),
) -> dict[str, NDArray[Any]]:
    """Return every output of a file for at least one sample, in the file's order.

    A file for one sample, such as one with early exits, runs sample by sample.

    signature: required names of inputs and outputs of a file by path. compact: applied to the outputs of each batch.
    tokens: inputs of token ids; batches are cut to their longest sample.
    RequestError if names, types or shapes differ from the file's inputs, or if the runtime fails on a file by path.
    """
    path = file if isinstance(file, Path) else None
    return _answers(_opened(file, signature), inputs, compact=compact, tokens=tokens, path=path)


def _answers(
    session: ort.InferenceSession,
    inputs: InputRows,
    *,
    compact: Callable[[Arrays], Arrays] | None,
    tokens: Sequence[str],
    path: Path | None,
) -> dict[str, NDArray[Any]]:
    """Run a session on all samples. tokens: see `predict`. path: of its file, for an error text."""
    _require_inputs(session, inputs)
    names = [value.name for value in session.get_outputs()]
    size = _size(session, inputs)
    starts = range(0, _count(inputs), size)
    try:
        parts = []
        for start in starts:
            batch = {name: rows[start : start + size] for name, rows in inputs.items()}
            if tokens:
                batch = to_arrays(unpadded(to_tensors(batch), tokens))
            outputs: Arrays = dict(zip(names, map(np.atleast_1d, session.run(names, batch)), strict=True))
            parts.append(outputs if compact is None else compact(outputs))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    except NasCompressError:
        raise
    except Exception as error:  # the runtime's exceptions have no common root
        if path is None:
            raise
        raise RequestError(f"a model file must run on the samples, but got {path}: {first_line(error)}") from error


def answered(answers: Answers, inputs: InputRows, *, session: ort.InferenceSession) -> dict[str, NDArray[Any]]:
    """Return every output of a file under another runtime. session: of the same file, for the size of batches."""
    size = _size(session, inputs)
    starts = range(0, _count(inputs), size)
    parts = [answers({name: rows[start : start + size] for name, rows in inputs.items()}) for start in starts]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def measure_metrics(file: File, task: Task, *, inputs: InputRows, targets: Arrays) -> dict[str, float]:
    """Return the task's metrics of a file on a whole split; RequestError if the file does not fit the task."""
    outputs = predict_split(file, task, inputs=inputs, targets=targets)
    return task.measure({name: values for name, values in outputs.items() if name != EXIT}, targets)


def predict_split(file: File, task: Task, *, inputs: InputRows, targets: Arrays) -> dict[str, NDArray[Any]]:
    """Return every output of a file on a whole split, as `Task.compact` keeps it, and the exit of each sample.

    RequestError if the file does not fit the task.
    """
    samples = _count(inputs)
    for name, values in targets.items():
        if len(values) != samples:
            raise RequestError(f"one {name} per sample must hold, but got {len(values)} of {samples} samples")

    def compact(outputs: Arrays) -> Arrays:
        own = {name: values for name, values in outputs.items() if name != EXIT}
        tensors = {name: torch.from_numpy(values) for name, values in own.items()}
        require_fitting(tensors, task.signature.outputs, samples=min(size, samples - len(seen) * size))
        seen.append(None)
        exits = {EXIT: outputs[EXIT]} if EXIT in outputs else {}
        return {**task.compact(own), **exits}

    seen: list[None] = []
    tokens = token_names(task.signature.inputs)
    places: Any = slice(None)
    if tokens:
        ordered, places = by_length(to_tensors(inputs), tokens)
        inputs = to_arrays(ordered)
    session = _opened(file, task.signature)
    size = _size(session, inputs)
    path = file if isinstance(file, Path) else None
    found = _answers(session, inputs, compact=compact, tokens=tokens, path=path)
    return {name: values[places] for name, values in found.items()}


def _opened(file: File, signature: Signature | None) -> ort.InferenceSession:
    return file if isinstance(file, ort.InferenceSession) else open_session(file, signature=signature)


def _size(session: ort.InferenceSession, inputs: InputRows) -> int:
    """Return the samples of a call: one if the file takes no more, or if its answers depend on the batch."""
    one_by_one = isinstance(session, FileSession) and session.one_by_one
    one_by_one = one_by_one or all(value.shape[:1] == [1] for value in session.get_inputs())
    return 1 if one_by_one else fitting(inputs, BATCH)


def _count(inputs: InputRows) -> int:
    return min((len(array) for array in inputs.values()), default=0)


def _require_inputs(session: ort.InferenceSession, inputs: InputRows) -> None:
    expected = {value.name: value for value in session.get_inputs()}
    if set(inputs) != set(expected):
        raise RequestError(f"inputs must be {', '.join(expected)}, but got {', '.join(inputs) or 'none'}")
    samples = _count(inputs)
    for name, value in expected.items():
        array, sizes = inputs[name], value.shape[1:]
        fits = array.dtype == NUMPY_TYPES.get(value.type) and array.ndim == len(sizes) + 1 and len(array) == samples > 0
        pairs = zip(sizes, array.shape[1:], strict=False)
        if not (fits and all(not isinstance(size, int) or size == actual for size, actual in pairs)):
            shape = ", ".join(["N", *map(str, sizes)])
            raise RequestError(
                f"{name} must be {NUMPY_TYPES.get(value.type, value.type)} ({shape}) with N >= 1, "
                f"but got {array.dtype} {tuple(array.shape)}"
            )
