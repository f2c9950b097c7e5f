"""Samples in a memory map: rows that are copied when a batch needs them."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._pytree import tree_map

from nas_compress.tasks.mapped_file import RowFile, row_file

PIECE = 16_000_000
"""Bytes of the copies in a pass over all rows."""

KEPT = 4_000_000
"""Bytes of mapped pages after which they are given back to the system."""

FAULT = 65_536
"""Bytes that a page fault maps at once; rows in random order cost at least this much."""

_ATEN = torch.ops.aten


class MappedRows:
    """Samples (N, ...) of a memory map, in the order of an index.

    values: a memory map or a view of one, never written to.
    kind: type of the samples when they are read; by default that of the values.
    index: rows of `values` in order, (N,); None for all of them.
    identity: text that differs if any byte of `values` differs; None if it is not known.
    file: the file of `values`, if it is open already.

    Rows are read from the file. A map without contiguous rows is read through its pages; these count as resident memory
    of the process for the last rows only.
    """

    def __init__(
        self,
        values: NDArray[Any],
        *,
        kind: str | None = None,
        index: NDArray[np.int64] | None = None,
        identity: str | None = None,
        file: RowFile | None = None,
    ) -> None:
        self.identity = identity
        self.index = index
        self.dtype = np.dtype(kind or values.dtype.name)
        self._values = values
        self._file = file or row_file(values)
        self._mapped = 0

    def __len__(self) -> int:
        return len(self._values) if self.index is None else len(self.index)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of all samples together."""
        return (len(self), *self._values.shape[1:])

    @property
    def ndim(self) -> int:
        """Number of dimensions, with that of the samples."""
        return self._values.ndim

    @property
    def size(self) -> int:
        """Number of values."""
        return int(np.prod(self.shape))

    @property
    def piece(self) -> int:
        """Number of rows in a piece of about PIECE bytes."""
        return max(1, PIECE * len(self) // max(1, self.size * self.dtype.itemsize))

    def __getitem__(self, wanted: slice | NDArray[np.int64]) -> NDArray[Any]:
        """Copy the rows at a slice or an index."""
        rows: slice | NDArray[np.int64] = wanted if self.index is None else self.index[wanted]
        if self._file is not None:
            numbers = (
                np.arange(*rows.indices(len(self._values))) if isinstance(rows, slice) else rows % len(self._values)
            )
            return self._file.read(numbers).astype(self.dtype, copy=False)
        copied = np.array(self._values[rows], dtype=self.dtype, order="C")
        in_order = isinstance(rows, slice)
        row_bytes = copied.nbytes // max(1, len(copied))
        self._mapped += copied.nbytes if in_order else len(copied) * max(FAULT, row_bytes)
        if self._mapped >= KEPT:
            self.release()
        return copied

    def take(self, index: NDArray[np.int64]) -> MappedRows:
        """Return the rows at an index without reading them."""
        chosen = index if self.index is None else self.index[index]
        return MappedRows(self._values, kind=self.dtype.name, index=chosen, identity=self.identity, file=self._file)

    def pieces(self) -> Iterator[NDArray[Any]]:
        """Copy all rows in order, in pieces of about PIECE bytes."""
        for start in range(0, len(self), self.piece):
            yield self[start : start + self.piece]

    def release(self) -> None:
        """Give mapped pages back to the system, which keeps them in its file cache."""
        self._mapped = 0
        pages = getattr(self._values, "_mmap", None)
        if isinstance(pages, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            with suppress(OSError, ValueError):
                pages.madvise(mmap.MADV_DONTNEED)


Rows: TypeAlias = NDArray[Any] | MappedRows
"""Samples (N, ...) in memory, or in a memory map."""


def pieces_of(values: Rows) -> Iterator[NDArray[Any]]:
    """Return all rows in order in pieces of bounded size."""
    if isinstance(values, MappedRows):
        yield from values.pieces()
        return
    step = max(1, PIECE * len(values) // max(1, values.nbytes))
    for start in range(0, len(values), step):
        yield values[start : start + step]


def rows_at(values: Rows, index: NDArray[np.int64]) -> Rows:
    """Return the rows at an index: a copy in memory, or the same memory map."""
    return values.take(index) if isinstance(values, MappedRows) else values[index]


class MappedTensor(Tensor):
    """A tensor of samples in a memory map, on the CPU or named to be on another device.

    Slices, `index_select` and `tensor[index]` along dimension 0 copy these rows to the device. `to` reads nothing. Any
    other operation copies all rows first.
    """

    source: MappedRows

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, source: MappedRows, device: torch.device | str = "cpu") -> MappedTensor:
        """Make the tensor without reading rows."""
        tensor: MappedTensor = torch.Tensor._make_wrapper_subclass(
            cls, source.shape, dtype=getattr(torch, source.dtype.name), device=torch.device(device)
        )
        tensor.source = source
        return tensor

    def __init__(self, source: MappedRows, device: torch.device | str = "cpu") -> None:
        pass

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"MappedTensor({tuple(self.shape)}, {self.dtype}, {self.device})"

    def read(self, rows: slice | NDArray[np.int64]) -> Tensor:
        """Copy rows to the device."""
        return torch.from_numpy(self.source[rows]).to(self.device)

    def __getitem__(self, wanted: Any) -> Tensor:
        """Copy the chosen rows. A method, because torch makes no views of a plain tensor in inference mode."""
        if isinstance(wanted, slice):
            return self.read(wanted)
        if isinstance(wanted, int):
            row = wanted % len(self)
            return self.read(slice(row, row + 1))[0]
        if isinstance(wanted, Tensor) and wanted.dtype == torch.int64 and wanted.ndim == 1:
            return self.read(wanted.cpu().numpy())
        return self.read(slice(None))[wanted]

    def detach(self) -> Tensor:
        """Return the same rows."""
        return MappedTensor(self.source, self.device)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Read the rows that an operation needs."""
        given = dict(kwargs or {})
        if args and isinstance(args[0], MappedTensor):
            found = _without_all_rows(function, args[0], args[1:], given)
            if found is not None:
                return found
        whole: Any = tree_map(_in_memory, (args, given))
        return function(*whole[0], **whole[1])


def _in_memory(value: Any) -> Any:
    return value.read(slice(None)) if isinstance(value, MappedTensor) else value


def _without_all_rows(
    function: Any, tensor: MappedTensor, rest: tuple[Any, ...], given: Mapping[str, Any]
) -> Tensor | None:
    """Return the result of an operation that needs some rows only; None for other operations."""
    if function is _ATEN._to_copy.default and given.get("dtype", tensor.dtype) == tensor.dtype:
        return MappedTensor(tensor.source, given.get("device") or tensor.device)
    if function is _ATEN.index_select.default and rest[0] == 0:
        return tensor.read(rest[1].cpu().numpy())
    return None
