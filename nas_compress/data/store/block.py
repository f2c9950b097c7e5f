"""Blocks of samples: read one by one, checked and stacked. This file imports no framework."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_compress.data.store.byte_values import exact_bytes
from nas_compress.data.store.source import Pair, Reader
from nas_compress.errors import NotBytesError, refusal

BLOCK = 16_000_000
"""Bytes of a block, about. A stop loses unfinished blocks only."""

MOST_ROWS = 1024
"""Largest number of samples in a block."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Form of all samples of a store.

    count: samples of the store. rows: samples of a block. sample, dtype: shape and type of a sample as it is read.
    target, target_dtype: of the first target. as_bytes: floats in steps of 1/255 are stored as bytes. name, where: of
    the split, for error texts.
    """

    count: int
    rows: int
    sample: tuple[int, ...]
    dtype: str
    target: tuple[int, ...]
    target_dtype: str
    as_bytes: bool
    name: str
    where: str

    @property
    def stored(self) -> np.dtype[Any]:
        """Type of the samples in the file."""
        return np.dtype(np.uint8) if self.as_bytes else np.dtype(self.dtype)

    @property
    def row_bytes(self) -> int:
        """Bytes of a sample in the file."""
        return int(np.prod(self.sample, dtype=np.int64)) * self.stored.itemsize

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return -(-self.count // self.rows)

    def span(self, block: int) -> range:
        """Numbers of the samples in a block."""
        return range(block * self.rows, min(self.count, (block + 1) * self.rows))


def shape_of(reader: Reader, first: Pair, *, as_bytes: bool, name: str, where: str) -> Shape:
    """Return the form that the first sample gives to all of them."""
    sample, target = first
    as_read = int(np.prod(sample.shape, dtype=np.int64)) * (1 if as_bytes else sample.dtype.itemsize)
    return Shape(
        count=len(reader),
        rows=min(MOST_ROWS, max(1, BLOCK // max(1, as_read))),
        sample=sample.shape,
        dtype=sample.dtype.str,
        target=target.shape,
        target_dtype=target.dtype.str,
        as_bytes=as_bytes,
        name=name,
        where=where,
    )


def read_block(reader: Reader, shape: Shape, block: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the samples of a block as they are stored, and their targets.

    RequestError if a sample has another shape or type than the first, NotBytesError for floats that are no bytes.
    """
    span = shape.span(block)
    samples = np.empty((len(span), *shape.sample), dtype=np.dtype(shape.dtype))
    targets = []
    for row, index in enumerate(span):
        sample, target = reader.read(index)
        _require_same(sample, target, shape, index)
        samples[row] = sample
        targets.append(target)
    if shape.as_bytes:
        stored = exact_bytes(samples)
        if stored is None:
            raise NotBytesError
        samples = stored
    return samples, np.stack(targets)


def write_block(path: Path, shape: Shape, block: int, samples: NDArray[Any]) -> None:
    """Write the samples of a block to their place."""
    with path.open("r+b") as file:
        file.seek(shape.span(block).start * shape.row_bytes)
        file.write(samples.tobytes())


def _require_same(sample: NDArray[Any], target: NDArray[Any], shape: Shape, index: int) -> None:
    if sample.shape != shape.sample or target.shape != shape.target:
        rule = f"samples of {shape.name} must have one shape, {shape.sample} as the first"
        found = sample.shape if sample.shape != shape.sample else target.shape
        raise refusal(f"{rule}, but got {found} at index {index}; resize them in the data set", shape.where)
    dtype, target_dtype = np.dtype(shape.dtype), np.dtype(shape.target_dtype)
    if sample.dtype != dtype or target.dtype.kind != target_dtype.kind:
        rule = f"samples of {shape.name} must have one type, {dtype} with targets {target_dtype} as the first"
        raise refusal(f"{rule}, but got {sample.dtype} with {target.dtype} at index {index}", shape.where)
