"""Sources of samples, which may be read in several processes."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

from numpy.typing import NDArray

Pair: TypeAlias = tuple[NDArray[Any], NDArray[Any]]
"""A sample and its target."""


class Reader(Protocol):
    """Single samples by number."""

    def __len__(self) -> int:
        """Return the number of samples."""
        ...

    def read(self, index: int) -> Pair:
        """Return a sample and its target; RequestError if there is none."""
        ...


class Source(Protocol):
    """Something to open in each process that reads; it can be pickled."""

    def open(self) -> Reader:
        """Return a reader of the same samples in every process."""
        ...
