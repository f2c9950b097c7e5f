"""An ONNX file opened for timing: one sample, one thread, blocks of runs on the thread's CPU clock."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime

from nas_compress.devices.onnx_session import read_content, start_session
from nas_compress.errors import RequestError, first_line
from nas_compress.values.model_file import COMPRESSED

_WARM_UP_RUNS = 5
_WARM_UP_S = 0.02


class TimedNet:
    """A net that runs the same random sample over and over. `source` is a path, or the bytes of the file."""

    def __init__(self, source: Path | bytes, *, block_ms: float) -> None:
        session = _open(source)
        sample = {"input": _sample(session, _name(source))}
        self._run: Callable[[], object] = lambda: session.run(None, sample)
        self._clock = _clock()
        _try(self._run, source)
        self._repeats = max(1, round(block_ms / self._warm_up_ms()))

    def block_ms(self) -> float:
        """Milliseconds per run: the median over one block's runs, which a lone interruption cannot move."""
        return statistics.median(self._seconds() for _ in range(self._repeats)) * 1e3

    def _seconds(self) -> float:
        start = self._clock()
        self._run()
        return self._clock() - start

    def _warm_up_ms(self) -> float:
        # Enough runs for a rough figure, but only one of a very slow net.
        times: list[float] = []
        while len(times) < _WARM_UP_RUNS and sum(times) < _WARM_UP_S:
            times.append(self._seconds())
        return max(min(times) * 1e3, 1e-3)


def _open(source: Path | bytes) -> onnxruntime.InferenceSession:
    content: bytes | str
    if isinstance(source, bytes):
        content = source
    else:
        content = read_content(source) if source.suffix == COMPRESSED else str(source)
    try:
        return start_session(content)
    except Exception as error:  # the runtime's exceptions share no narrower root
        rule = "the model must be an ONNX file that onnxruntime loads"
        raise RequestError(f"{rule}, but got {_name(source)}: {first_line(error)}") from error


def _try(run: Callable[[], object], source: Path | bytes) -> None:
    """The first run, which also allocates."""
    try:
        run()
    except Exception as error:
        rule = "the model must run on one sample"
        raise RequestError(f"{rule}, but got {_name(source)}: {first_line(error)}") from error


def _name(source: Path | bytes) -> str:
    return "the reference net" if isinstance(source, bytes) else str(source)


def _sample(session: onnxruntime.InferenceSession, where: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """One raw sample (1, ...) of the model's input; the same values each time."""
    inputs = session.get_inputs()
    found = ", ".join(f"{node.name}: {node.type} {node.shape}" for node in inputs)
    rule = f"the model must have one input, input: tensor(uint8) (N, fixed sizes), but {where} has {found}"
    if [(node.name, node.type) for node in inputs] != [("input", "tensor(uint8)")]:
        raise RequestError(rule)
    sizes = inputs[0].shape
    if len(sizes) < 2 or (isinstance(sizes[0], int) and sizes[0] != 1):
        raise RequestError(rule)
    if not all(isinstance(size, int) for size in sizes[1:]):
        raise RequestError(rule)
    return np.random.default_rng(0).integers(0, 256, (1, *sizes[1:]), dtype=np.uint8)


def _clock() -> Callable[[], float]:
    # Some systems count a thread's time in ticks of milliseconds.
    fine = time.get_clock_info("thread_time").resolution <= 1e-6
    return time.thread_time if fine else time.perf_counter
