"""Progress of a run on stderr: bars in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from nas_compress import callbacks
from nas_compress.cli.terminal import print_line
from nas_compress.errors import printable
from nas_compress.runs.front import Front
from nas_compress.runs.records import Record
from nas_compress.search.reporter import Silence, trial_line
from nas_compress.values.metrics.table import Objective

EVERY_S = 15.0
"""Seconds between two plain lines about the running stages."""

TRIAL = "trial"
"""The word in front of the trial number in the name of a stage."""


def make_reporter(*, quiet: bool = False) -> BarReporter | LineReporter | QuietReporter:
    """Make a reporter: bars if stderr is a terminal, plain lines if not, nothing if `quiet`."""
    if quiet:
        return QuietReporter()
    console = Console(stderr=True)
    return BarReporter(console) if console.is_terminal else LineReporter()


@contextmanager
def reading_shown() -> Iterator[callbacks.Progress]:
    """Show the reading of data before there is a run: a bar in a terminal, plain lines elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield LineReporter(quiet_start=True).stage
        return
    with Progress(*_columns(), console=console, transient=True) as bars:
        shown: dict[str, TaskID] = {}

        def stage(name: str, done: int, count: int) -> None:
            if name not in shown:
                shown[name] = bars.add_task(name, total=count)
            bars.update(shown[name], completed=done)

        yield stage


def _columns() -> tuple[ProgressColumn, ...]:
    return (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )


def summary_line(front: Front) -> str:
    """Return the size of the front, its hypervolume, and the best value of each objective."""
    parts = [f"front of {len(front.members)}"]
    if front.reference is not None:
        parts.append(f"hypervolume {front.hypervolume():.4f}")
    if front.members:
        parts += [f"best {o.metric.label} {o.metric.shown(_best(front, o))}" for o in front.objectives]
    return "  ".join(parts)


def _best(front: Front, objective: Objective) -> float:
    return min((point.figure(objective.name) for point in front.members), key=objective.cost)


def stage_words(name: str, done: int, count: int) -> str:
    """Describe a stage. A trial is timed before its first epoch, and exported and measured after its last."""
    if TRIAL not in name or 0 < done < count:
        return name
    return f"{name}, its file measured" if done else f"{name}, cost of its file"


class Stages:
    """The running stages: one at a time, or one trial per worker."""

    def __init__(self) -> None:
        self._running: dict[str, tuple[int, int]] = {}

    @property
    def running(self) -> list[tuple[str, int, int]]:
        """The stages as (name, done, count), sorted by name."""
        return [(name, *self._running[name]) for name in sorted(self._running)]

    def update(self, name: str, done: int, count: int) -> None:
        """Record that a stage started or progressed.

        A new stage ends all stages without a trial, and replaces the same trial on another worker.
        """
        if name not in self._running:
            self.end(int(name.rsplit(" ", 1)[1]) if TRIAL in name else None)
            self._running = {known: stage for known, stage in self._running.items() if TRIAL in known}
        self._running[name] = (done, count)

    def end(self, trial: int | None) -> None:
        """Remove a finished trial."""
        self._running = {name: stage for name, stage in self._running.items() if not name.endswith(f"{TRIAL} {trial}")}


class _WithoutScreen:
    """A context without setup and teardown."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class LineReporter(_WithoutScreen):
    """Plain lines for logs and pipes. quiet_start: no line about stages in the first seconds."""

    def __init__(self, *, quiet_start: bool = False) -> None:
        self._shown = time.monotonic() if quiet_start else 0.0
        self._stages = Stages()

    def say(self, text: str) -> None:
        """Print a line."""
        print_line(text, err=True)

    def begin(self, finished: int, total: int) -> None:
        """Print nothing, because the lines before have the totals."""

    def stage(self, name: str, done: int, count: int) -> None:
        """Print a line about all running stages, every few seconds at most."""
        self._stages.update(name, done, count)
        if time.monotonic() - self._shown >= EVERY_S:
            self._shown = time.monotonic()
            lines = [f"{stage_words(*stage)}: {stage[1]}/{stage[2]}" for stage in self._stages.running]
            print_line("; ".join(lines), err=True)

    def trial(self, record: Record, front: Front, finished: int, total: int) -> None:
        """Print a line for each trial."""
        self._shown = time.monotonic()
        self._stages.end(record.trial)
        print_line(trial_line(record, front, finished, total), err=True)


class QuietReporter(_WithoutScreen, Silence):
    """Print errors only; the log file of the run has every line."""


class BarReporter:
    """A summary of the front, a bar for the trials, and a bar for each running stage, with the time left."""

    def __init__(self, console: Console) -> None:
        self._bars = Progress(
            *_columns(),
            console=console,
            auto_refresh=False,
        )
        self._summary = Text("no trial has finished yet", style="bold")
        self._live = Live(Group(self._summary, self._bars), console=console, refresh_per_second=4)
        self._study: TaskID | None = None
        self._stages = Stages()
        self._shown: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        self._bars.console.print(printable(text), highlight=False, markup=False)

    def begin(self, finished: int, total: int) -> None:
        """Show the upper bar."""
        self._study = self._bars.add_task("trials", total=total, completed=finished)

    def stage(self, name: str, done: int, count: int) -> None:
        """Move a lower bar."""
        self._stages.update(name, done, count)
        self._show_stages()

    def trial(self, record: Record, front: Front, finished: int, total: int) -> None:
        """Move the upper bar and print the trial's line."""
        if self._study is not None:
            self._bars.update(self._study, completed=finished)
        self._stages.end(record.trial)
        self._show_stages()
        self._summary.plain = summary_line(front)
        self.say(trial_line(record, front, finished, total))

    def _show_stages(self) -> None:
        running = {name: (done, count) for name, done, count in self._stages.running}
        for name in self._shown.keys() - running.keys():
            self._bars.remove_task(self._shown.pop(name))
        for name, (done, count) in running.items():
            if name not in self._shown:
                self._shown[name] = self._bars.add_task(name, total=count)
            words = stage_words(name, done, count)
            self._bars.update(self._shown[name], description=words, completed=done, total=count)
