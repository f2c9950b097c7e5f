"""A study on the workers of a Dask cluster, which starts and watches them."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from nas_compress.errors import RequestError
from nas_compress.front import Front
from nas_compress.spec.study_file import read_study
from nas_compress.study.reporter import Reporter, Silence
from nas_compress.study.run import default_folder, run_study

LOCAL = "dask"
"""A cluster of this machine's processes, in place of a scheduler's address."""

RETRIES = 10
"""How often Dask begins again where a worker died; its run folder goes on."""


def run_on_dask(
    study: str,
    *,
    on: str,
    storage: str | None,
    shared: Path | None,
    out: Path | None = None,
    trials: int | None = None,
    workers: int = 1,
    reporter: Reporter | None = None,
) -> Front:
    """Run a study with `workers` Dask workers to its total and return its front, as `run_study` does.

    on: `dask` for processes of this machine, or a scheduler's address (dask-jobqueue and dask-kubernetes start one).
    Each Dask worker is a host of the study: it needs the study file at the same path, the `storage`, and the `shared`
    folder. Its run folder lies in `out`/hosts; `out` itself gets everything. RequestError where something is missing.
    """
    if storage is None or shared is None:
        raise RequestError("--on needs --storage and --shared, which all workers can reach, but got neither or one")
    if workers < 1:
        raise RequestError(f"workers >= 1 must hold, but got workers={workers}")
    distributed = _distributed()
    root = (out or default_folder(read_study(study))).absolute()
    reporter = reporter or Silence()
    with ExitStack() as stack:
        scheduler: Any = on
        if on == LOCAL:
            scheduler = stack.enter_context(
                distributed.LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None)
            )
        client = stack.enter_context(_client(distributed, scheduler))
        reporter.say(f"{workers} workers on {scheduler.scheduler_address if on == LOCAL else on}")
        place = str(Path(study).absolute()) if Path(study).exists() else study
        hosts = [root / "hosts" / str(number) for number in range(workers)]
        tasks = [
            client.submit(_work, place, str(host), storage, str(shared.absolute()), trials, pure=False, retries=RETRIES)
            for host in hosts
        ]
        client.gather(tasks)
    return run_study(study, out=root, storage=storage, shared=shared, trials=trials, reporter=reporter)


def _work(study: str, out: str, storage: str, shared: str, trials: int | None) -> int:
    """What a Dask worker does: one host's run."""
    front = run_study(study, out=Path(out), storage=storage, shared=Path(shared), trials=trials)
    return len(front.points)


def _distributed() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise RequestError("--on needs Dask, which is not installed: pip install 'nas-compress[dask]'") from error
    return distributed


def _client(distributed: Any, scheduler: Any) -> Any:
    try:
        return distributed.Client(scheduler, timeout=30)
    except (OSError, ValueError, TimeoutError) as error:
        rule = "--on must be 'dask' or the address of a Dask scheduler that answers"
        raise RequestError(f"{rule}, but got {scheduler}: {type(error).__name__}") from error
