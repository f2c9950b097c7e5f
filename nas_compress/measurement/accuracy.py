"""What a file answers, and how often it is right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from nas_compress.devices.onnx_session import open_session
from nas_compress.errors import RequestError
from nas_compress.values.model_file import INPUT_NAME, OUTPUT_NAME

BATCH = 256
"""Samples that the runtime gets at once: bounds the memory."""


def predict(session_or_path: ort.InferenceSession | Path, inputs: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Logits float32 (N, classes) for raw samples uint8 (N, C, H, W), N of at least 1.

    RequestError where the samples are of another type or shape than the file takes.
    """
    session = session_or_path if isinstance(session_or_path, ort.InferenceSession) else open_session(session_or_path)
    _require_samples(session, inputs)
    batches = [inputs[start : start + BATCH] for start in range(0, len(inputs), BATCH)]
    answers = [session.run([OUTPUT_NAME], {INPUT_NAME: batch})[0] for batch in batches]
    return np.concatenate(answers)


def measure_accuracy(
    session_or_path: ort.InferenceSession | Path, inputs: NDArray[np.uint8], labels: NDArray[Any]
) -> float:
    """The fraction of samples uint8 (N, C, H, W) whose largest logit is that of their label (N,)."""
    if len(labels) != len(inputs):
        raise RequestError(f"one label a sample must hold, but got {len(labels)} labels and {len(inputs)} samples")
    return float((predict(session_or_path, inputs).argmax(axis=1) == np.asarray(labels)).mean())


def _require_samples(session: ort.InferenceSession, inputs: NDArray[np.uint8]) -> None:
    expected = session.get_inputs()[0].shape[1:]
    if inputs.dtype != np.uint8 or list(inputs.shape[1:]) != list(expected) or len(inputs) == 0:
        raise RequestError(
            f"samples must be uint8 (N, {', '.join(map(str, expected))}) with N >= 1, "
            f"but got {inputs.dtype} {tuple(inputs.shape)}"
        )
