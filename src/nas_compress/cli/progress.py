"""How a run shows its progress on stderr: bars in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

import click
from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from nas_compress.front import Front
from nas_compress.objective import Objective
from nas_compress.plots.scales import PLAIN, shown
from nas_compress.runs.records import Record
from nas_compress.study.reporter import Silence, trial_line

EVERY_S = 15.0
"""Seconds between two plain lines about one long stage."""


def make_reporter(*, quiet: bool = False) -> BarReporter | LineReporter | QuietReporter:
    """Bars where stderr is a terminal, plain lines where it is not, nothing if `quiet`."""
    if quiet:
        return QuietReporter()
    console = Console(stderr=True)
    return BarReporter(console) if console.is_terminal else LineReporter()


def standing_line(front: Front) -> str:
    """How the study stands: the front's size, its hypervolume, and the best of each objective."""
    told = [f"front of {len(front.members)}"]
    if front.reference is not None:
        told.append(f"hypervolume {front.hypervolume():.4f}")
    if front.members:
        told += [f"best {PLAIN[o.name]} {shown(o.name, _best(front, o))}" for o in front.objectives]
    return "  ".join(told)


def _best(front: Front, objective: Objective) -> float:
    return min((point.figure(objective.name) for point in front.members), key=objective.cost)


class _WithoutScreen:
    """Nothing to set up, nothing to take down."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class LineReporter(_WithoutScreen):
    """Plain lines for logs and pipes."""

    def __init__(self) -> None:
        self._shown = 0.0

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


class QuietReporter(_WithoutScreen, Silence):
    """Nothing on stderr but errors; the run's log file has every line."""


class BarReporter:
    """How the study stands, a bar for its trials and one for what is being done, with the time left."""

    def __init__(self, console: Console) -> None:
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            auto_refresh=False,
        )
        self._standing = Text("no trial has finished yet", style="bold")
        self._live = Live(Group(self._standing, self._bars), console=console, refresh_per_second=4)
        self._study: TaskID | None = None
        self._stage: TaskID | None = None
        self._name = ""

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

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
            self._bars.update(self._study, completed=finished)
        self._standing.plain = standing_line(front)
        self.say(trial_line(record, front, finished, total))
