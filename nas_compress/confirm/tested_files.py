"""Files whose figures on the test split a confirmation reads, some with the thresholds of an exit point."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nas_compress.errors import RequestError
from nas_compress.export.xz_container import content_with_thresholds
from nas_compress.files import TEMPORARY, digest_of_file
from nas_compress.values.outcome import Measured


@dataclass(frozen=True, kw_only=True)
class TestedFile:
    """A file of the run, or one with other thresholds of its early exits, which is not kept.

    path: of the file in the run folder. exit_point: number of the exit point, None for the file as it is. thresholds:
    of the exit point, one per exit, None for no exit.
    """

    path: Path
    exit_point: int | None = None
    thresholds: tuple[float | None, ...] = ()

    def name(self, root: Path) -> str:
        """The name in the table of test figures: its path in the run folder, with the exit point behind an @."""
        words = self.path.relative_to(root).as_posix()
        return words if self.exit_point is None else f"{words}@{self.exit_point}"

    def digest(self) -> str:
        """The SHA-256 of the file with these thresholds."""
        return digest_of_file(self.path) if self.exit_point is None else hashlib.sha256(self._content()).hexdigest()

    @contextmanager
    def opened(self) -> Iterator[Path]:
        """Give the path of the file with these thresholds while the block runs."""
        if self.exit_point is None:
            yield self.path
            return
        with tempfile.TemporaryDirectory(prefix=TEMPORARY) as folder:
            changed = Path(folder) / self.path.name
            changed.write_bytes(self._content())
            yield changed

    def _content(self) -> bytes:
        return content_with_thresholds(self.path.read_bytes(), self.thresholds)


def tested_at(path: Path, measured: Measured, exit_point: int | None) -> TestedFile:
    """Return a file at an exit point of its record, which may be that of the file's own thresholds."""
    found = measured if exit_point is None else measured.at_exit_point(exit_point)
    if found is measured or found.exits is None:
        return TestedFile(path=path)
    return TestedFile(path=path, exit_point=exit_point, thresholds=found.exits.thresholds)


def same_point(member: Measured, exit_point: int | None, other: Measured) -> int | None:
    """Return the exit point of another training with the stated loss of a member's exit point.

    Its thresholds are its own, chosen on the validation split for that loss. RequestError if there is none.
    """
    if exit_point is None or member.exits is None:
        return None
    loss = member.exits.points[exit_point].accuracy_loss
    points = () if other.exits is None else other.exits.points
    for number, point in enumerate(points):
        if point.accuracy_loss == loss:
            return number
    raise RequestError(f"a repetition must have an exit point that may lose {loss:.2%}, but it has none")
