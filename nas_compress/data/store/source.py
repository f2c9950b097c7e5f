"""Sources of samples, which may be read in several processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

from numpy.typing import NDArray

Progress: TypeAlias = Callable[[str, int, int], None]
"""Receives the name of a stage, its finished and all its steps."""

Notice: TypeAlias = Callable[[str], None]
"""Receives a line about something that was made again or left out."""

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


def no_progress(stage: str, done: int, count: int) -> None:
    """Show nothing."""
