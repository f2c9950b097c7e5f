"""Run a study on the workers of a Dask cluster."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nas_compress.config.study_file import read_study
from nas_compress.errors import RequestError, RunError
from nas_compress.optional_imports import optional_package
from nas_compress.runs.front import Front
from nas_compress.search.reporter import Reporter, Silence
from nas_compress.search.run import default_folder, run_study
from nas_compress.search.storage.shared_files import open_shared

LOCAL = "dask"
"""Name of a cluster of local processes, instead of a scheduler's address."""

RETRIES = 10
"""Number of times that Dask restarts a task if its worker dies. The run folder is continued."""


@dataclass(frozen=True, kw_only=True)
class HostTask:
    """Input of one host. Dask logs the arguments of failed tasks, so its text lacks the storage and its password.

    study: the study file. out: the run folder. shared: place of the shared store. trials: total, None for the file's.
    """

    study: str
    out: str
    storage: str = field(repr=False)
    shared: str
    trials: int | None


def run_on_dask(
    study: str,
    *,
    on: str,
    storage: str | None,
    shared: str | Path | None,
    out: Path | None = None,
    trials: int | None = None,
    workers: int = 1,
    reporter: Reporter | None = None,
) -> Front:
    """Run a study with `workers` Dask workers to its total and return its front, as `run_study` does.

    on: `dask` for local processes, which listen on 127.0.0.1 only, or a scheduler's address (dask-jobqueue and
    dask-kubernetes start one).
    Each Dask worker is a host of the study. It needs the study file at the same path, the `storage` and the `shared`
    store. Its run folder is in `out`/hosts; `out` itself gets all results. RequestError is raised if one is missing.
    """
    if storage is None or shared is None:
        raise RequestError("--on needs --storage and --shared in reach of all workers, but one or both are missing")
    if workers < 1:
        raise RequestError(f"workers >= 1 must hold, but got workers={workers}")
    place = open_shared(shared).place
    distributed = _distributed()
    root = (out or default_folder(read_study(study))).absolute()
    reporter = reporter or Silence()
    with ExitStack() as stack:
        scheduler: Any = on
        if on == LOCAL:
            scheduler = stack.enter_context(
                distributed.LocalCluster(
                    host="127.0.0.1",
                    n_workers=workers,
                    threads_per_worker=1,
                    dashboard_address=None,  # no dashboard
                    scheduler_kwargs={"allowed_failures": RETRIES},
                )
            )
        client = stack.enter_context(_client(distributed, scheduler))
        reporter.say(f"{workers} workers on {scheduler.scheduler_address if on == LOCAL else on}")
        file = str(Path(study).absolute()) if Path(study).exists() else study
        hosts = [root / "hosts" / str(number) for number in range(workers)]
        tasks = [HostTask(study=file, out=str(host), storage=storage, shared=place, trials=trials) for host in hosts]
        running = [client.submit(_work, task, pure=False, retries=RETRIES) for task in tasks]
        try:
            answers = client.gather(running)
        except distributed.KilledWorker as error:
            raise RunError(
                f"A Dask worker died {error.allowed_failures + 1} times; its log is in {root / 'hosts'}. "
                "Run the same command to continue."
            ) from error
        for refused in filter(None, answers):
            raise refused
    return run_study(study, out=root, storage=storage, shared=place, trials=trials, reporter=reporter)


def _work(task: HostTask) -> RequestError | None:
    """Run a study as one host. A RequestError is returned, because another try would not help."""
    threads = _distributed().get_worker().state.nthreads
    if threads != 1:
        return RequestError(
            "--on needs Dask workers with one thread, because searches in one process would share torch's random "
            f"numbers, but got nthreads={threads}"
        )
    try:
        run_study(task.study, out=Path(task.out), storage=task.storage, shared=task.shared, trials=task.trials)
    except RequestError as error:
        return error
    return None


def _distributed() -> Any:
    return optional_package("distributed", needed_for="--on", extra="dask")


def _client(distributed: Any, scheduler: Any) -> Any:
    try:
        return distributed.Client(scheduler, timeout=30)
    except (OSError, ValueError, TimeoutError) as error:
        rule = "--on must be 'dask' or the address of a Dask scheduler that answers"
        raise RequestError(f"{rule}, but got {scheduler}: {type(error).__name__}") from error
