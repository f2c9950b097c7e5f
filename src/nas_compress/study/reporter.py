"""What a run tells whoever watches it."""

from __future__ import annotations

from typing import Protocol

from nas_compress.front import Front
from nas_compress.runs.records import Record


class Reporter(Protocol):
    """Receives progress; the command line shows it."""

    def say(self, text: str) -> None:
        """One line worth keeping."""

    def begin(self, finished: int, total: int) -> None:
        """The study is open: so many of its trials are finished."""

    def stage(self, name: str, done: int, count: int) -> None:
        """A long stage went on: the teacher's epochs, its answers, a trial's epochs."""

    def trial(self, record: Record, front: Front, finished: int, total: int) -> None:
        """A trial finished; `front` is the front after it."""


class Silence:
    """A reporter that keeps quiet."""

    def say(self, text: str) -> None:
        """Say nothing."""

    def begin(self, finished: int, total: int) -> None:
        """Say nothing."""

    def stage(self, name: str, done: int, count: int) -> None:
        """Say nothing."""

    def trial(self, record: Record, front: Front, finished: int, total: int) -> None:
        """Say nothing."""
