"""A worker: a process that trains candidates for a run. It keeps no storage and no records; the run does."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch

from nas_compress.config.study_file import StudyFile
from nas_compress.devices.table import open_device
from nas_compress.errors import NasCompressError
from nas_compress.search.setup import find_teacher, gather, make_context
from nas_compress.search.stopping_rule import study_rule
from nas_compress.stopping.rules import Rule
from nas_compress.trial.run import run_trial
from nas_compress.values.candidate import Candidate
from nas_compress.values.outcome import Measured, Outcome


@dataclass(frozen=True, kw_only=True)
class Task:
    """One trial to be trained: its number, its candidate and where its file and the state of its training go."""

    number: int
    candidate: Candidate
    model: Path
    checkpoint: Path


@dataclass(frozen=True, kw_only=True)
class Taken:
    """The worker has started, and begins its task."""


@dataclass(frozen=True, kw_only=True)
class Begun:
    """Training begins: the untrained file's figures, and the epochs of a full training."""

    cost: Measured
    planned: int


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The accuracy after an epoch; the worker waits for the reason to stop, or None."""

    epoch: int
    accuracy: float


@dataclass(frozen=True, kw_only=True)
class Progressed:
    """So many of the epochs are over."""

    done: int
    count: int


@dataclass(frozen=True, kw_only=True)
class Ended:
    """The outcome, or the error that ends the whole run."""

    outcome: Outcome | None
    error: Exception | None = None


Message = Taken | Begun | Asked | Progressed | Ended


def work(connection: Connection[Any, Any], file: StudyFile) -> None:
    """Train what comes over the connection until it closes. The teacher and its answers are ready in the cache."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the run, which ends its workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    with open_device(file.spec.target).busy():
        parts = gather(file)
        context = make_context(parts, find_teacher(parts, lambda name, done, count: None))
    rule, shadow = study_rule(file.spec), file.spec.search.stop == "shadow"
    while True:
        try:
            task: Task = connection.recv()
        except (EOFError, ConnectionResetError):  # the run is over, or was killed with something unread
            return
        connection.send(Taken())
        try:
            outcome = run_trial(
                task.candidate,
                context,
                seed=file.spec.seed,
                model=task.model,
                checkpoint=task.checkpoint,
                on_epoch=lambda done, count: connection.send(Progressed(done=done, count=count)),
                stopper=_Asking(connection, rule),
                shadow=shadow,
            )
        except (NasCompressError, OSError) as error:
            connection.send(Ended(outcome=None, error=error))
        else:
            connection.send(Ended(outcome=outcome))


class _Asking:
    """A stopper that asks the run, because only the run has the other trials' curves."""

    def __init__(self, connection: Connection[Any, Any], rule: Rule) -> None:
        self._connection, self._rule, self._planned = connection, rule, 0

    def begin(self, cost: Measured, planned: int) -> None:
        """Tell what the candidate costs."""
        self._planned = planned
        self._connection.send(Begun(cost=cost, planned=planned))

    def wants(self, epoch: int) -> bool:
        """Where the rule looks."""
        return self._rule.wants(epoch, self._planned)

    def stop_reason(self, epoch: int, accuracy: float) -> str | None:
        """Ask and wait."""
        self._connection.send(Asked(epoch=epoch, accuracy=accuracy))
        reason: str | None = self._connection.recv()
        return reason


def _end_with_parent() -> None:
    """A run that was killed leaves no worker behind."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
