"""How a run shows its progress on stderr: bars in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from nas_compress.front import Front
from nas_compress.runs.records import Record

EVERY_S = 15.0
"""Seconds between two plain lines about one long stage."""


def make_reporter() -> BarReporter | LineReporter:
    """Bars where stderr is a terminal, plain lines where it is not."""
    console = Console(stderr=True)
    return BarReporter(console) if console.is_terminal else LineReporter()


def trial_line(record: Record, front: Front, finished: int, total: int) -> str:
    """One finished trial in words."""
    outcome, measured = record.outcome, record.outcome.measured
    if measured is None or outcome.state == "failed":
        told = f"failed: {outcome.reason}"
    elif outcome.state == "stopped":
        told = f"stopped after {outcome.epochs} of {outcome.planned_epochs} epochs: {outcome.reason}"
    elif measured.accuracy is None:
        told = f"over budget before training: {outcome.reason}"
    else:
        noisy = " (noisy)" if measured.latency_noisy else ""
        told = f"{measured.accuracy:.2%}  {measured.latency_ms:.3f} ms{noisy}  {measured.size_bytes:,} bytes"
        told += f"  over budget: {outcome.reason}" if outcome.reason else ""
    if record.repeats is not None:
        told += f"  (answered by trial {record.repeats})"
    star = " *" if any(point.trial == record.trial for point in front.members) else ""
    return f"[{finished}/{total}] trial {record.trial}: {told}{star}  front {len(front.members)}"


class LineReporter:
    """Plain lines for logs and pipes."""

    def __init__(self) -> None:
        self._shown = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def say(self, text: str) -> None:
        """Print a line."""
        click.echo(text, err=True)

    def begin(self, finished: int, total: int) -> None:
        """Print nothing: what is said before tells it."""

    def stage(self, name: str, done: int, count: int) -> None:
        """Print a line now and then."""
        if time.monotonic() - self._shown >= EVERY_S:
            self._shown = time.monotonic()
            click.echo(f"{name}: {done}/{count}", err=True)

    def trial(self, record: Record, front: Front, finished: int, total: int) -> None:
        """Print a line for each trial."""
        self._shown = time.monotonic()
        click.echo(trial_line(record, front, finished, total), err=True)


class BarReporter:
    """A bar for the study and one for what is being done, with the time left."""

    def __init__(self, console: Console) -> None:
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
        )
        self._study: TaskID | None = None
        self._stage: TaskID | None = None
        self._name = ""

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        self._bars.console.print(text, highlight=False, markup=False)

    def begin(self, finished: int, total: int) -> None:
        """Show the upper bar."""
        self._study = self._bars.add_task("trials", total=total, completed=finished)

    def stage(self, name: str, done: int, count: int) -> None:
        """Move the lower bar."""
        if self._stage is None or name != self._name:
            if self._stage is not None:
                self._bars.remove_task(self._stage)
            self._stage, self._name = self._bars.add_task(name, total=count), name
        self._bars.update(self._stage, completed=done, total=count)

    def trial(self, record: Record, front: Front, finished: int, total: int) -> None:
        """Move the upper bar and print the trial's line."""
        if self._study is not None:
            self._bars.update(self._study, completed=finished, description=f"trials, front of {len(front.members)}")
        self.say(trial_line(record, front, finished, total))
