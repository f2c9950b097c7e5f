"""Table of the files of a search with their finishing times."""

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
    """Return the processor time of a process and its current and former children (Linux)."""
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
    """Count the processor time of a process with its children, and the wall time, from its creation.

    With one thread both are equal on an idle machine; on a shared machine wall time includes other programs.
    """

    process: int = field(default_factory=os.getpid)
    begun: float = -1.0
    begun_wall: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        if self.begun < 0:
            object.__setattr__(self, "begun", processor_seconds(self.process))

    @property
    def seconds(self) -> float:
        """Processor time in seconds."""
        return processor_seconds(self.process) - self.begun

    @property
    def wall_seconds(self) -> float:
        """Wall time in seconds."""
        return time.time() - self.begun_wall


def add_find(folder: Path, file: Path, *, seconds: float, wall_seconds: float) -> None:
    """Append a fully trained candidate and its file to the table of the folder.

    Rows are written one by one, so a killed search keeps its results.
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
        """Add a candidate that has just finished."""
        add_find(self.folder, file, seconds=self.seconds, wall_seconds=self.clock.wall_seconds)


def read_finds(folder: Path, clock: str = "processor") -> list[tuple[float, Path]]:
    """Return (seconds, file) of each row in temporal order, by the `processor` or the `wall` clock."""
    path = folder / TABLE
    if not path.is_file():
        return []
    with path.open(encoding="utf-8") as handle:
        column = CLOCKS[clock]
        return sorted((float(row[column]), folder / row["file"]) for row in csv.DictReader(handle))
