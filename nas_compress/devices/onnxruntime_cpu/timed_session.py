"""Timing of an ONNX file: one sample, one thread, blocks of runs on the thread's CPU clock."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from nas_compress.devices.onnx_session import NUMPY_TYPES, read_content, start_session
from nas_compress.devices.protocol import NO_SIZES
from nas_compress.errors import RequestError, first_line

Array = NDArray[Any]

_WARM_UP_RUNS = 5
_WARM_UP_S = 0.02


class TimedNet:
    """A model that runs one fixed sample repeatedly.

    source: path, or the bytes of a file. block_ms: length of a block of runs. sizes: of free dimensions other than the
    batch, by name. RequestError if the model cannot run one sample.
    """

    def __init__(self, source: Path | bytes, *, block_ms: float, sizes: Mapping[str, int] = NO_SIZES) -> None:
        session = _open(source)
        sample = _sample(session, sizes, _name(source))
        self._run: Callable[[], object] = lambda: session.run(None, sample)
        self._clock = _clock()
        _try(self._run, source)
        self._repeats = max(1, round(block_ms / self._warm_up_ms()))

    def block_ms(self) -> float:
        """Return the milliseconds per run of one block: the median, because a single interruption cannot move it."""
        return statistics.median(self._seconds() for _ in range(self._repeats)) * 1e3

    def _seconds(self) -> float:
        start = self._clock()
        self._run()
        return self._clock() - start

    def _warm_up_ms(self) -> float:
        # A rough figure is enough; a very slow net runs only once.
        times: list[float] = []
        while len(times) < _WARM_UP_RUNS and sum(times) < _WARM_UP_S:
            times.append(self._seconds())
        return max(min(times) * 1e3, 1e-3)


def _open(source: Path | bytes) -> onnxruntime.InferenceSession:
    content = source if isinstance(source, bytes) else read_content(source)
    try:
        return start_session(content)
    except Exception as error:  # the runtime's exceptions share no narrower root
        rule = "the model must be an ONNX file that onnxruntime loads"
        raise RequestError(f"{rule}, but got {_name(source)}: {first_line(error)}") from error


def _try(run: Callable[[], object], source: Path | bytes) -> None:
    """Run once, which also allocates memory."""
    try:
        run()
    except Exception as error:
        rule = "the model must run on one sample"
        raise RequestError(f"{rule}, but got {_name(source)}: {first_line(error)}") from error


def _name(source: Path | bytes) -> str:
    return "the reference net" if isinstance(source, bytes) else str(source)


def _sample(session: onnxruntime.InferenceSession, sizes: Mapping[str, int], where: str) -> dict[str, Array]:
    """Make one sample (1, ...) of every input; the same values each time."""
    generator = np.random.default_rng(0)
    return {node.name: _values(node.type, _shape(node, sizes, where), generator) for node in session.get_inputs()}


def _shape(node: onnxruntime.NodeArg, sizes: Mapping[str, int], where: str) -> tuple[int, ...]:
    """Return the shape of one sample of an input; RequestError if a size is neither fixed nor in `sizes`."""
    batch, *rest = node.shape or [None]
    if batch == 1 or not isinstance(batch, int):
        found = [size if isinstance(size, int) else sizes.get(size) for size in rest]
        known = [size for size in found if size is not None]
        if node.shape and len(known) == len(rest):
            return (1, *known)
    raise RequestError(
        "a model's inputs must have a free first dimension and other sizes that are fixed or given, "
        f"but {where} has {node.name}: {node.type} {node.shape}"
    )


def _values(kind: str, shape: tuple[int, ...], generator: np.random.Generator) -> Array:
    """Return random bytes or floats; zeros and ones for other integers, because they may be indices."""
    dtype = np.dtype(NUMPY_TYPES[kind])
    if dtype == np.uint8:
        return generator.integers(0, 256, shape, dtype=np.uint8)
    if np.issubdtype(dtype, np.floating):
        return generator.standard_normal(shape).astype(dtype)
    return generator.integers(0, 2, shape).astype(dtype)


def _clock() -> Callable[[], float]:
    # The clock of a thread's CPU time ticks in milliseconds on some systems.
    fine = time.get_clock_info("thread_time").resolution <= 1e-6
    return time.thread_time if fine else time.perf_counter
