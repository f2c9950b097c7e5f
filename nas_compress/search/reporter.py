"""Reporters of a run: they receive its progress."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Protocol

from nas_compress.errors import printable
from nas_compress.files import append_text
from nas_compress.runs.front import Front
from nas_compress.runs.records import Record
from nas_compress.values.metrics.table import in_words


class Reporter(Protocol):
    """Receives progress; the command line shows it."""

    def say(self, text: str) -> None:
        """Show a line and keep it."""

    def begin(self, finished: int, total: int) -> None:
        """Show the state of the opened study: `finished` of `total` trials are done."""

    def stage(self, name: str, done: int, count: int) -> None:
        """Show progress of a long stage: the teacher's epochs, its answers, or a trial's epochs."""

    def trial(self, record: Record, front: Front, finished: int, total: int) -> None:
        """Show a finished trial; `front` is the front with it."""


class Silence:
    """A reporter without output."""

    def say(self, text: str) -> None:
        """Show nothing."""

    def begin(self, finished: int, total: int) -> None:
        """Show nothing."""

    def stage(self, name: str, done: int, count: int) -> None:
        """Show nothing."""

    def trial(self, record: Record, front: Front, finished: int, total: int) -> None:
        """Show nothing."""


class Logged:
    """A reporter with a log: it passes everything on and writes each line, with its time, to a file."""

    def __init__(self, reporter: Reporter, path: Path) -> None:
        self._reporter = reporter
        self._path = path

    def say(self, text: str) -> None:
        """Pass the line on and log it."""
        self.keep(text)
        self._reporter.say(text)

    def keep(self, text: str) -> None:
        """Log a line with its time."""
        append_text(self._path, f"{time.strftime('%Y-%m-%d %H:%M:%S')} {printable(text)}\n")

    def begin(self, finished: int, total: int) -> None:
        """Pass the call on."""
        self._reporter.begin(finished, total)

    def stage(self, name: str, done: int, count: int) -> None:
        """Pass the stage on and log it once, at its end."""
        if done == count:
            self.keep(f"{name}: {done}/{count}")
        self._reporter.stage(name, done, count)

    def trial(self, record: Record, front: Front, finished: int, total: int) -> None:
        """Pass the trial on and log its line."""
        self.keep(trial_line(record, front, finished, total))
        self._reporter.trial(record, front, finished, total)


def trial_line(record: Record, front: Front, finished: int, total: int) -> str:
    """Describe a finished trial in one line."""
    outcome, measured = record.outcome, record.outcome.measured
    if measured is None or outcome.state == "failed":
        told = f"failed: {outcome.reason}"
    elif outcome.state == "stopped":
        told = f"stopped after {outcome.epochs} of {outcome.planned_epochs} epochs: {outcome.reason}"
    elif outcome.state == "over_budget":
        told = f"over budget before training: {outcome.reason}"
    else:
        noisy = " (noisy latency)" if measured.any_noisy else ""
        lost = [objective.name for objective in front.objectives if measured.lacks(objective.name)]
        noisy += f" ({', '.join(lost)} not measured)" if lost else ""
        shown = in_words(measured.figures, [objective.name for objective in front.objectives])
        told = f"{shown}{noisy}, {outcome.number_format}"
        told += f"  over budget: {outcome.reason}" if outcome.reason else ""
    if record.repeats is not None:
        told += f"  (answered by trial {record.repeats})"
    star = " *" if any(point.trial == record.trial for point in front.members) else ""
    return f"[{finished}/{total}] trial {record.trial}: {told}{star}  front {len(front.members)}"
