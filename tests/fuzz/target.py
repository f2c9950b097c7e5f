"""The file or folder that a case damages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from random import Random

OUTSIDE = "outside"
"""Folder in the place that belongs to nobody's run."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """The file or folder to damage, with its place and the random numbers of this case."""

    path: Path
    place: Path
    random: Random

    @property
    def content(self) -> bytes:
        return self.path.read_bytes()

    @property
    def outside(self) -> Path:
        """A new path outside the run."""
        return self.place / OUTSIDE / self.path.name

    @property
    def mark(self) -> Path:
        """File that planted code writes."""
        return self.place / OUTSIDE / "executed"

    def write(self, content: bytes) -> None:
        self.path.write_bytes(content)

    def other(self) -> Path:
        """Another file of the same name, else of the same ending, else any other."""
        files = [path for path in sorted(self.place.rglob("*")) if path.is_file() and path != self.path]
        for alike in (lambda path: path.name == self.path.name, lambda path: path.suffix == self.path.suffix):
            if found := [path for path in files if alike(path) and path.read_bytes() != self.content]:
                return self.random.choice(found)
        return self.random.choice(files)


class NotApplicableError(Exception):
    """The file cannot have the damage."""
