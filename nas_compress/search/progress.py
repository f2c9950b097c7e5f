"""Progress of a study: the finished trials, the front and its files."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from nas_compress.runs.folder import RunFolder
from nas_compress.runs.front import Front
from nas_compress.runs.records import Record
from nas_compress.runs.results import draw_front, make_front, write_front, write_history
from nas_compress.runs.saved_epochs import savings
from nas_compress.search.reporter import Reporter
from nas_compress.search.setup import StudyParts
from nas_compress.search.storage.hosts import Hosts
from nas_compress.tasks.task import task_chance
from nas_compress.values.outcome import Measured

DRAW_EVERY_S = 30.0
"""Age up to which front.png may be out of date while trials run. front.csv and front.json are always up to date."""


@dataclass(kw_only=True, eq=False)
class Progress:
    """The finished trials of a study.

    total: number of trials of the whole study. teacher: the teacher's figures.
    """

    parts: StudyParts
    folder: RunFolder
    reporter: Reporter
    total: int
    teacher: Measured
    records: list[Record]
    _drawn: float = field(default=-math.inf, init=False)

    @property
    def front(self) -> Front:
        """The front of all finished trials."""
        return make_front(self.parts.spec, task_chance(self.parts.dataset.task), self.teacher, self.records)

    @property
    def members(self) -> list[int | str]:
        """The trials on the front."""
        return [point.trial for point in self.front.members]

    def add(self, record: Record) -> None:
        """Count a finished trial and write the front's files if the front changed."""
        members = self.members
        self.records.append(record)
        front = self.front
        if [point.trial for point in front.members] != members:
            self.write(front, sparing=True)
        self.reporter.trial(record, front, len(self.records), self.total)

    def take_in(self, hosts: Hosts) -> None:
        """Count the trials finished by other processes since the last call."""
        for record in hosts.new_records({record.trial for record in self.records}):
            self.add(record)

    def write(self, front: Front, *, sparing: bool = False) -> None:
        """Write the front's files. sparing: draw the picture only if the last one is older than `DRAW_EVERY_S`."""
        write_front(self.folder, front, savings(self.records, front))
        started = time.monotonic()
        if not sparing or started >= self._drawn + DRAW_EVERY_S:
            draw_front(self.folder, front, self.parts.spec.name)
            self._drawn = started

    def close(self) -> None:
        """Write the files of a finished run."""
        front = self.front
        self.write(front)
        write_history(self.folder, front, self.records, self.parts.spec.name)
