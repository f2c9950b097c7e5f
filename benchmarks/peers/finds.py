"""What a search left: a table of its files and of the second at which each was finished."""

from __future__ import annotations

import csv
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

TABLE = "finds.csv"
COLUMNS = ("seconds", "wall_seconds", "file")
CLOCKS = {"processor": "seconds", "wall": "wall_seconds"}


def processor_seconds(process: int) -> float:
    """Processor time of a process, of the children that it has and of those that it had. Linux."""
    try:
        # after the name in brackets: state, parent, ...; utime, stime, cutime, cstime are the 14th to 17th of all
        fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        children = [
            int(child)
            for task in Path(f"/proc/{process}/task").iterdir()
            for child in (task / "children").read_text(encoding="ascii").split()
        ]
    except OSError:  # it ended just now
        return 0.0
    own = sum(int(ticks) for ticks in fields[11:15]) / os.sysconf("SC_CLK_TCK")
    return own + sum(processor_seconds(child) for child in children)


@dataclass(frozen=True, kw_only=True)
class Clock:
    """Counts the processor time of one process and its children, and the time on the wall, from its making on.

    On one thread they are the same on a machine of one's own; on a shared one the wall counts the neighbours too.
    """

    process: int = field(default_factory=os.getpid)
    begun: float = -1.0
    begun_wall: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        if self.begun < 0:
            object.__setattr__(self, "begun", processor_seconds(self.process))

    @property
    def seconds(self) -> float:
        """Processor time."""
        return processor_seconds(self.process) - self.begun

    @property
    def wall_seconds(self) -> float:
        """Time on the wall."""
        return time.time() - self.begun_wall


def add_find(folder: Path, file: Path, *, seconds: float, wall_seconds: float) -> None:
    """A candidate was trained to its end and its file is written: a row of the folder's table.

    A row at a time, so that what is killed leaves what it had found.
    """
    path = folder / TABLE
    if not path.exists():
        path.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    with path.open("a", newline="", encoding="utf-8") as handle:
        row = (f"{seconds:.2f}", f"{wall_seconds:.2f}", file.relative_to(folder))
        csv.writer(handle, lineterminator="\n").writerow(row)


@dataclass(frozen=True, kw_only=True)
class Finds:
    """The table of one search, and its clock."""

    folder: Path
    clock: Clock = field(default_factory=Clock)

    @property
    def seconds(self) -> float:
        """Processor time since the search could try its first candidate."""
        return self.clock.seconds

    def add(self, file: Path) -> None:
        """A candidate is finished now."""
        add_find(self.folder, file, seconds=self.seconds, wall_seconds=self.clock.wall_seconds)


def read_finds(folder: Path, clock: str = "processor") -> list[tuple[float, Path]]:
    """(seconds, file) of each row in the order of time, by the `processor` or the `wall`."""
    path = folder / TABLE
    if not path.is_file():
        return []
    with path.open(encoding="utf-8") as handle:
        column = CLOCKS[clock]
        return sorted((float(row[column]), folder / row["file"]) for row in csv.DictReader(handle))
