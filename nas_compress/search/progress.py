"""What is finished of a study: the records of this run and of those beside it, and the front's files."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from nas_compress.runs.folder import RunFolder
from nas_compress.runs.front import Front
from nas_compress.runs.records import Record
from nas_compress.runs.results import draw_front, make_front, write_front, write_history
from nas_compress.runs.savings import savings
from nas_compress.search.reporter import Reporter
from nas_compress.search.setup import Ingredients
from nas_compress.search.storage.hosts import Joint
from nas_compress.tasks.task import task_chance
from nas_compress.values.outcome import Measured

LOOK_EVERY_S = 0.5
"""How often a run that waits for others looks."""

DRAW_EVERY_S = 30.0
"""How old front.png may be while trials run; front.csv and front.json are never behind."""


@dataclass(kw_only=True, eq=False)
class Tally:
    """The finished trials of a study that shall have `total` of them."""

    parts: Ingredients
    folder: RunFolder
    reporter: Reporter
    total: int
    records: list[Record]
    teacher: Measured | None = None
    joint: Joint | None = None
    _drawn: float = field(default=-math.inf, init=False)

    @property
    def front(self) -> Front:
        """The front of all finished trials."""
        return make_front(self.parts.spec, task_chance(self.parts.dataset.task), self.teacher, self.records)

    @property
    def members(self) -> list[int | str]:
        """The trials on the front."""
        return [point.trial for point in self.front.members]

    def add(self, record: Record | None) -> None:
        """Count a finished trial, if it is one, and write the front where it changed."""
        if record is None:
            return
        members = self.members
        self.records.append(record)
        front = self.front
        if [point.trial for point in front.members] != members:
            self.write(front, sparing=True)
        self.reporter.trial(record, front, len(self.records), self.total)

    def places(self) -> int | None:
        """How many trials this run may begin beside its own; None where the total is reached.

        What other runs of the study finished since the last look is taken in first.
        """
        # what ends between the two looks must count twice for a moment rather than not at all: then too few are begun
        others = 0 if self.joint is None else len(self.joint.in_flight())
        self._take_in()
        left = self.total - len(self.records)
        return None if left <= 0 else left - others

    def is_surplus(self, trial: int, own: int) -> bool:
        """Whether other runs asked for the last trials at the same time; `own` others are under way here."""
        if self.joint is None:
            return False
        earlier = self.joint.earlier(trial)  # before the records, as above
        self._take_in()
        return own + earlier >= self.total - len(self.records)

    def _take_in(self) -> None:
        """Count what other runs finished since the last look."""
        if self.joint is not None:
            for record in self.joint.news({record.trial for record in self.records}):
                self.add(record)

    def wait(self) -> None:
        """Wait a little for the trials of other runs, and have those of dead ones repeated."""
        if self.joint is not None and self.joint.bury():
            self.reporter.say("another run died; its trials are repeated")
        time.sleep(LOOK_EVERY_S)

    def write(self, front: Front, *, sparing: bool = False) -> None:
        """Write the front's files; the picture, if sparing, only so often that it costs few seconds."""
        write_front(self.folder, front, savings(self.records, front))
        started = time.monotonic()
        if not sparing or started >= self._drawn + DRAW_EVERY_S:
            draw_front(self.folder, front, self.parts.spec.name)
            self._drawn = started

    def close(self) -> None:
        """Write all that a finished run leaves."""
        front = self.front
        self.write(front)
        write_history(self.folder, front, self.records, self.parts.spec.name)
