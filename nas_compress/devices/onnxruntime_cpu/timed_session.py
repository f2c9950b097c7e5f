"""Timing of an ONNX file in blocks of runs: one thread by its CPU clock, several by the wall clock."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from nas_compress.devices.onnx_session import NUMPY_TYPES, read_content, start_session
from nas_compress.devices.protocol import NO_SIZES, Sizes
from nas_compress.errors import RequestError, first_line
from nas_compress.values.device_settings import DEFAULT_SETTINGS, DeviceSettings
from nas_compress.values.text.hashed_words import HashedWords

Array = NDArray[Any]

OpenNet = Callable[[Path | bytes, DeviceSettings, Mapping[str, int]], Callable[[], object]]
"""Opens a path or the bytes of a file, for sizes of free dimensions. The result runs one batch."""

_WARM_UP_RUNS = 5
_WARM_UP_S = 0.02
_TAIL_RUNS = 5
"""Fewest runs of a block for a percentile above the median: 60 in 12 blocks."""


class TimedNet:
    """A model that runs one fixed batch repeatedly, or one after the other for several sizes.

    source: path, or the bytes of a file. block_ms: length of a block of runs. sizes: see `devices.protocol.Sizes`; with
    several sizes, a run is the mean over one run of each. settings: threads, batch and providers of a run. open_net:
    opens it in a runtime other than onnxruntime. RequestError if the model cannot run one batch, or if onnxruntime does
    not use the providers.
    """

    def __init__(
        self,
        source: Path | bytes,
        *,
        block_ms: float,
        sizes: Sizes = NO_SIZES,
        settings: DeviceSettings = DEFAULT_SETTINGS,
        open_net: OpenNet | None = None,
    ) -> None:
        each = list(_each(sizes))
        if open_net is None:
            self._runs = _in_onnxruntime(source, settings, each)
        else:
            self._runs = [open_net(source, settings, one) for one in each]
        self._clock = clock_of(settings)
        for run in self._runs:
            try_run(run, source, settings.batch)
        fewest = 1 if settings.percentile in ("median", "mean") else _TAIL_RUNS
        self._repeats = max(fewest, round(block_ms / self._warm_up_ms()))

    def run(self) -> int:
        """Run one batch of each size; return the number of batches."""
        for run in self._runs:
            run()
        return len(self._runs)

    def runs_ms(self) -> list[float]:
        """Return the milliseconds of each run of one block."""
        return [self._seconds() * 1e3 for _ in range(self._repeats)]

    def block_ms(self) -> float:
        """Return the milliseconds per run of one block: the median, because a single interruption cannot move it."""
        return statistics.median(self.runs_ms())

    def _seconds(self) -> float:
        start = self._clock()
        for run in self._runs:
            run()
        return (self._clock() - start) / len(self._runs)

    def _warm_up_ms(self) -> float:
        # A rough figure is enough; a very slow net runs only once.
        times: list[float] = []
        while len(times) < _WARM_UP_RUNS and sum(times) * len(self._runs) < _WARM_UP_S:
            times.append(self._seconds())
        return max(min(times) * len(self._runs) * 1e3, 1e-3)


def _each(sizes: Sizes) -> Iterator[dict[str, int]]:
    """Yield the sizes of each batch; equal places of several sizes belong together."""
    several = [size for size in sizes.values() if isinstance(size, tuple)]
    for place in range(min(map(len, several), default=1)):
        yield {name: size[place] if isinstance(size, tuple) else size for name, size in sizes.items()}


def open_timed(source: Path | bytes, settings: DeviceSettings) -> onnxruntime.InferenceSession:
    """Open a file for timing; RequestError if onnxruntime does not load it or does not use the providers."""
    content = source if isinstance(source, bytes) else read_content(source)
    try:
        session = start_session(content, settings=settings)
    except Exception as error:  # the runtime's exceptions share no narrower root
        rule = "the model must be an ONNX file that onnxruntime loads"
        raise RequestError(f"{rule}, but got {_name(source)}: {first_line(error)}") from error
    used = tuple(session.get_providers())
    if used[: len(settings.providers)] != settings.providers:
        wanted = ", ".join(settings.providers)
        raise RequestError(
            f"onnxruntime must run the model by {wanted}, but used {', '.join(used)} for {_name(source)}"
        )
    return session


def try_run(run: Callable[[], object], source: Path | bytes, batch: int) -> None:
    """Run once, which also allocates memory."""
    try:
        run()
    except Exception as error:
        rule = f"the model must run on {'one sample' if batch == 1 else f'a batch of {batch}'}"
        raise RequestError(f"{rule}, but got {_name(source)}: {first_line(error)}") from error


def _name(source: Path | bytes) -> str:
    return "the reference net" if isinstance(source, bytes) else str(source)


def _in_onnxruntime(
    source: Path | bytes, settings: DeviceSettings, sizes: Sequence[Mapping[str, int]]
) -> list[Callable[[], object]]:
    """Open a file once, and return a run of each size."""
    session = open_timed(source, settings)
    batches = [random_batch(session, settings.batch, each, _name(source)) for each in sizes]
    return [partial(session.run, None, batch) for batch in batches]


def random_batch(
    session: onnxruntime.InferenceSession, count: int, sizes: Mapping[str, int], where: str
) -> dict[str, Array]:
    """Make a batch (count, ...) of every input; the same values each time.

    A file that hashes words gets words of the usual length.
    sizes: of free dimensions other than the batch, by name. where: name of the model in a RequestError.
    """
    generator, metadata = np.random.default_rng(0), session.get_modelmeta().custom_metadata_map
    batch = {}
    for node in session.get_inputs():
        shape, dtype = _shape(node, count, sizes, where), np.dtype(NUMPY_TYPES[node.type])
        if dtype in (np.int32, np.int64) and any(size in sizes for size in node.shape[1:]):
            batch[node.name] = np.ones(shape, dtype)  # token ids: 0 is padding, which some networks leave out
        elif dtype == np.uint8 and "hashed_words" in metadata:
            texts = HashedWords.from_metadata(metadata).sample(*shape)
            batch[node.name] = np.frombuffer(texts, dtype).reshape(shape)
        else:
            batch[node.name] = _values(node.type, shape, generator)
    return batch


def _shape(node: onnxruntime.NodeArg, count: int, sizes: Mapping[str, int], where: str) -> tuple[int, ...]:
    """Return the shape of a batch of an input; RequestError if a size is neither fixed nor in `sizes`."""
    batch, *rest = node.shape or [None]
    if batch == count or not isinstance(batch, int):
        found = [size if isinstance(size, int) else sizes.get(size) for size in rest]
        known = [size for size in found if size is not None]
        if node.shape and len(known) == len(rest):
            return (count, *known)
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


def clock_of(settings: DeviceSettings) -> Callable[[], float]:
    """Return the clock of runs: CPU time of the thread for one thread, else the wall clock."""
    # The clock of a thread's CPU time sees no other thread or chip, and on some systems it ticks in milliseconds.
    alone = settings.threads == 1 and settings.providers == DEFAULT_SETTINGS.providers
    fine = time.get_clock_info("thread_time").resolution <= 1e-6
    return time.thread_time if alone and fine else time.perf_counter
