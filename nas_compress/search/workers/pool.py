"""The workers of a run: tasks out, outcomes in; one that dies is replaced and its task repeated."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from nas_compress.config.study_file import StudyFile
from nas_compress.errors import RunError
from nas_compress.files import tidy
from nas_compress.search.workers.process import Asked, Begun, Ended, Message, Progressed, Taken, Task, work
from nas_compress.trial.monitor import Stopper
from nas_compress.values.candidate import Candidate
from nas_compress.values.outcome import Outcome

TRIES = 3
"""A candidate on which so many workers died is a failed trial: it may need more memory than there is."""

STARTS = 10
"""So many workers may die one after the other before they begin a task: more cannot be chance."""


@dataclass(kw_only=True, eq=False)
class Job:
    """A task and what answers for it in the run; `taken` says that a worker has begun it."""

    task: Task
    stopper: Stopper
    deaths: int = 0
    taken: bool = False


@dataclass(kw_only=True, eq=False)
class _Worker:
    process: SpawnProcess
    connection: Connection[Any, Any]
    job: Job | None = None


class Crew:
    """`count` worker processes. `progress` is told (worker from 1, trial number, done, count) of their epochs."""

    def __init__(self, count: int, file: StudyFile, progress: Callable[[int, int, int, int], None]) -> None:
        self._file, self._progress = file, progress
        self._false_starts = 0
        self._workers = [self._hire() for _ in range(count)]

    @property
    def idle(self) -> int:
        """Workers without a task."""
        return sum(worker.job is None for worker in self._workers)

    @property
    def candidates(self) -> list[Candidate]:
        """What is being tried."""
        return [worker.job.task.candidate for worker in self._workers if worker.job is not None]

    @property
    def pids(self) -> list[int | None]:
        """The workers' process ids."""
        return [worker.process.pid for worker in self._workers]

    def give(self, job: Job) -> None:
        """Let an idle worker begin a job."""
        worker = next(worker for worker in self._workers if worker.job is None)
        worker.job = job
        self._tell(worker, job, 0, self._file.spec.training.epochs)
        try:
            worker.connection.send(job.task)
        except OSError:  # it died while it was idle: the job stays with it, and `next_end` replaces both
            return

    def next_end(self) -> tuple[Job, Outcome]:
        """Serve the workers until one of them ends its trial."""
        while True:
            ready = wait([worker.connection for worker in self._workers])
            for worker in self._workers:
                if worker.connection in ready:
                    ended = self._serve(worker)
                    if ended is not None:
                        return ended

    def close(self) -> None:
        """End all workers, whatever they do."""
        for worker in self._workers:
            worker.connection.close()
            worker.process.kill()
            worker.process.join()

    def _serve(self, worker: _Worker) -> tuple[Job, Outcome] | None:
        try:
            message: Message = worker.connection.recv()
        except (EOFError, OSError):
            return self._replace(worker)
        job = worker.job
        if job is None:
            raise RuntimeError(f"a worker without a task sent {message}")
        match message:
            case Taken():
                job.taken, self._false_starts = True, 0
            case Begun():
                job.stopper.begin(message.cost, message.planned)
                self._tell(worker, job, 0, message.planned)
            case Asked():
                self._answer(worker, job.stopper.stop_reason(message.epoch, message.accuracy))
            case Progressed():
                self._tell(worker, job, message.done, message.count)
            case Ended():
                worker.job = None
                if message.error is not None:
                    raise message.error
                if message.outcome is None:
                    raise RuntimeError("a worker ended without an outcome")
                return job, message.outcome
        return None

    def _tell(self, worker: _Worker, job: Job, done: int, count: int) -> None:
        self._progress(self._workers.index(worker) + 1, job.task.number, done, count)

    def _answer(self, worker: _Worker, reason: str | None) -> None:
        try:
            worker.connection.send(reason)
        except OSError:  # it died while it waited: its connection ends, and it is replaced
            return

    def _replace(self, worker: _Worker) -> tuple[Job, Outcome] | None:
        """Put a new worker in the place of a dead one; its job begins afresh, or failed where it killed too many."""
        worker.connection.close()
        worker.process.join()
        code, job = worker.process.exitcode, worker.job
        self._workers[self._workers.index(worker)] = self._hire()
        if job is None:
            return None
        tidy(job.task.model.parent)
        told = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        if job.taken:
            job.taken, job.deaths = False, job.deaths + 1
        else:
            self._count_false_start(told)
        if job.deaths < TRIES:
            self.give(job)
            return None
        reason = f"the worker died {job.deaths} times at this trial, last by {told}; it may need more memory"
        return job, Outcome(candidate=job.task.candidate, seed=self._file.spec.seed, state="failed", reason=reason)

    def _count_false_start(self, told: str) -> None:
        self._false_starts += 1
        if self._false_starts >= STARTS:
            raise RunError(
                f"workers must be able to start, but {STARTS} died one after the other, last by {told}; "
                "the same command goes on from here"
            )

    def _hire(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(theirs, self._file), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process=process, connection=ours)
