"""Worker processes of a run.

Each worker searches on the study's storage. The run shows their progress and replaces dead ones.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

import torch

from nas_compress.callbacks import no_notice, no_progress
from nas_compress.config.study_file import StudyFile
from nas_compress.errors import NasCompressError, RunError
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_baseline
from nas_compress.search.ask_and_tell import Clock, Trials
from nas_compress.search.loop import LOOK_EVERY_S, search
from nas_compress.search.reporter import Reporter, Silence
from nas_compress.search.setup import find_teacher, gather, make_context, measured_against
from nas_compress.search.storage.hosts import Hosts, working
from nas_compress.search.storage.optuna_storage import join_study, known_errors, opened_storage
from nas_compress.search.storage.shared_files import open_shared

STARTS = 10
"""Limit of workers that die one after the other before a trial begins."""


@dataclass(frozen=True, kw_only=True)
class WorkerTask:
    """Input of a worker process: the study, the run and the storage.

    storage: URL of the database, None for the journal. shared: place of the shared store. data: fingerprint of the
    data of the run.
    """

    file: StudyFile
    folder: RunFolder
    run_id: str
    storage: str | None = field(repr=False)
    shared: str | None
    total: int
    clock: Clock
    data: str


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Progress of a worker: `done` of `count` steps of the stage `name`."""

    name: str
    done: int
    count: int


Message = Stage | str | Exception | None
"""Message of a worker: progress, a line, an error (it ends the run), or None after a finished trial."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Worker:
    process: SpawnProcess
    connection: Connection[Any, Any]


class Workers:
    """`count` worker processes. They live inside `with`."""

    def __init__(self, count: int, task: WorkerTask, reporter: Reporter) -> None:
        self._task, self._reporter = task, reporter
        self._false_starts = 0
        self._workers = {number: self._start(number) for number in range(1, count + 1)}

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *raised: object) -> None:
        for worker in self._workers.values():
            worker.connection.close()
            worker.process.kill()
            worker.process.join()

    def watch(self, is_complete: Callable[[], bool]) -> None:
        """Show progress and replace dead workers until `is_complete()`.

        It is called after each message about a finished trial, and while no messages arrive.
        """
        while not is_complete():
            finished = False
            while not finished:
                ready = wait([worker.connection for worker in self._workers.values()], timeout=LOOK_EVERY_S)
                finished = not ready
                for number, worker in list(self._workers.items()):
                    if worker.connection in ready:
                        finished |= self._serve(number, worker)

    def _serve(self, number: int, worker: _Worker) -> bool:
        """Handle one message. Return whether a trial finished."""
        try:
            message: Message = worker.connection.recv()
        except (EOFError, OSError):
            self._replace(number, worker)
            return False
        match message:
            case Stage():
                self._false_starts = 0
                self._reporter.stage(f"worker {number}, {message.name}", message.done, message.count)
            case str():
                self._reporter.say(message)
            case Exception():
                raise message
        return message is None

    def _replace(self, number: int, worker: _Worker) -> None:
        """Start a new worker in place of a dead one. It settles the open trials of the dead one."""
        worker.connection.close()
        worker.process.join()
        code = worker.process.exitcode or 0
        self._false_starts += 1
        if self._false_starts >= STARTS:
            cause = f"signal {-code}" if code < 0 else f"exit code {code}"
            raise RunError(
                f"{STARTS} worker processes ended before they began a trial, the last one by {cause}. "
                "Run the same command to continue."
            )
        self._workers[number] = self._start(number)

    def _start(self, number: int) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(theirs, number, self._task), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process=process, connection=ours)


class _PipeReporter(Silence):
    """Sends progress and lines to the parent process."""

    def __init__(self, connection: Connection[Any, Any]) -> None:
        self._connection = connection

    def say(self, text: str) -> None:
        self._connection.send(text)

    def stage(self, name: str, done: int, count: int) -> None:
        self._connection.send(Stage(name=name, done=done, count=count))


def work(connection: Connection[Any, Any], number: int, task: WorkerTask) -> None:
    """Search until the study has its total. The teacher and its answers are in the cache already."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the run, which ends its workers
    with working(task.folder, number):
        parent = parent_process()
        if parent is None or not parent.is_alive():  # a next run may have started; it waits for this lock only
            return
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
        torch.set_num_threads(1)
        with suppress(BrokenPipeError):
            try:
                with known_errors(task.storage):
                    _search(connection, number, task)
                wait([parent.sentinel])  # the run ends its workers
            except (NasCompressError, OSError) as error:
                connection.send(error)


def _search(connection: Connection[Any, Any], number: int, task: WorkerTask) -> None:
    reporter = _PipeReporter(connection)
    parts = gather(task.file, progress=reporter.stage, notice=reporter.say)
    if parts.dataset.fingerprint != task.data:
        raise RunError(
            f"Worker {number} loaded other data than the run. {parts.dataset.name} must return the same data at each "
            "call: give its random numbers a seed."
        )
    parts = measured_against(parts, read_baseline(task.folder))
    with parts.target.busy():
        context = make_context(parts, find_teacher(parts, no_progress, reporter.say))
    with opened_storage(task.storage, task.folder.journal) as storage:
        hosts = Hosts(
            study=join_study(storage, parts.spec, space=parts.space.suggest, say=no_notice),  # the run says it
            folder=task.folder,
            run_id=task.run_id,
            machine=parts.target.fingerprint,
            worker=number,
            joined=task.storage is not None,
            shared=None if task.shared is None else open_shared(task.shared),
            space=parts.space.suggest,
        )
        with hosts.proposing():  # no other worker has a trial that it has not signed yet
            hosts.settle_cut(parts.spec, task=parts.dataset.task, died=True)
        trials = Trials(
            parts=parts,
            context=context,
            hosts=hosts,
            reporter=reporter,
            total=task.total,
            clock=task.clock,
            records=hosts.new_records(()),
            finished=lambda record: connection.send(None),
        )
        search(trials)


def _end_with(parent: int) -> None:
    """End this process with its parent, because a killed run must leave no worker behind."""
    wait([parent])
    os._exit(1)
