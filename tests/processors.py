"""Processors whose 8-bit kernels saturate, and what tests of integer files do there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from nas_compress.devices.onnx_session import open_session
from nas_compress.devices.onnxruntime_cpu.device import OnnxruntimeCpu
from nas_compress.devices.table import recorded_caution
from nas_compress.errors import ExportError
from nas_compress.measurement.predictions import predict
from nas_compress.values.outcome import Outcome

Result = TypeVar("Result")

SATURATED = "integer kernels saturate on this processor (no VNNI, no AMX)"


def integer_caution() -> str:
    """Return the device's line about 8-bit kernels on this processor; empty if they are exact."""
    return recorded_caution(OnnxruntimeCpu().describe())


def integer_kernels_saturate() -> bool:
    """Return True if 8-bit kernels add products in 16 bits on this processor."""
    return bool(integer_caution())


def skip_if_saturated(outcome: Outcome) -> None:
    """Skip the test if the trial failed only because the kernels saturate: its file agrees without them."""
    if outcome.state == "failed" and integer_kernels_saturate() and str(outcome.reason).endswith(integer_caution()):
        pytest.skip(SATURATED)


def skip_if_saturation_explains(agreement: float, *, least: float, path: Path, images: NDArray[np.uint8]) -> None:
    """Skip the test if an integer file agrees too little with its module and the kernels changed enough of its classes.

    agreement: fraction of the images for which file and module choose the same class. least: what the test asks for.
    """
    if agreement >= least or not integer_kernels_saturate():
        return
    integers, floats = (predict(open_session(path, integer_kernels=each), {"input": images}) for each in (True, False))
    changed = (integers["logits"].argmax(axis=1) != floats["logits"].argmax(axis=1)).mean()
    if agreement + changed >= least:
        pytest.skip(SATURATED)


def with_exact_integers(path: Path, check: Callable[[ort.InferenceSession], Result]) -> Result:
    """Return the result of a check of a file.

    If it fails and the kernels saturate, the check must pass on the file computed without integer kernels, and the test
    is skipped. A wrong file fails on every processor.
    """
    try:
        return check(open_session(path))
    except (AssertionError, ExportError):
        if not integer_kernels_saturate():
            raise
        check(open_session(path, integer_kernels=False))
    pytest.skip(SATURATED)
