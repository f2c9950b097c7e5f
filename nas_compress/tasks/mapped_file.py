"""Rows of a memory map, read from its file by position: five times faster than page faults in random order."""

from __future__ import annotations

import mmap
import os
import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_compress.errors import DamagedFileError


class RowFile:
    """The file of a memory map whose rows are contiguous.

    start: bytes before row 0. stride: bytes from a row to the next one.
    """

    def __init__(self, path: str, *, start: int, stride: int, row: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._path, self._start, self._stride = path, start, stride
        self._row, self._dtype = row, dtype
        self._handle = os.open(path, os.O_RDONLY)
        self.close = weakref.finalize(self, os.close, self._handle)

    def read(self, numbers: NDArray[np.int64]) -> NDArray[Any]:
        """Return a copy of the rows; DamagedFileError if the file has become shorter."""
        rows = np.empty((len(numbers), *self._row), dtype=self._dtype)
        content = rows.reshape(-1).view(np.uint8)
        size = len(content) // max(1, len(numbers))
        in_order = len(numbers) > 0 and self._stride == size and bool((np.diff(numbers) == 1).all())
        if in_order:
            self._fill(content, int(numbers[0]))
        else:
            for place, number in enumerate(numbers.tolist()):
                self._fill(content[place * size : (place + 1) * size], number)
        return rows

    def _fill(self, content: NDArray[np.uint8], number: int) -> None:
        done, position = 0, self._start + number * self._stride
        while done < len(content):
            count = os.preadv(self._handle, [content[done:].data], position + done)
            if count == 0:
                raise DamagedFileError(f"{self._path} became shorter while it was used. Run the same command again.")
            done += count


def row_file(values: NDArray[Any]) -> RowFile | None:
    """Return the file of a memory map or of a view of one; None if rows are not contiguous, or on other systems."""
    pages, path = getattr(values, "_mmap", None), getattr(values, "filename", None)
    if not hasattr(os, "preadv") or not isinstance(pages, mmap.mmap) or path is None or len(values) == 0:
        return None
    if not values[:1].flags.c_contiguous or values.strides[0] <= 0 or not values.dtype.isnative:
        return None
    offset = int(getattr(values, "offset", 0))
    begin = offset - offset % mmap.ALLOCATIONGRANULARITY
    start = begin + values.ctypes.data - np.frombuffer(pages, dtype=np.uint8).ctypes.data
    try:
        return RowFile(
            str(path), start=start, stride=values.strides[0], row=values.shape[1:], dtype=np.dtype(values.dtype)
        )
    except OSError:
        return None
