"""Measure the load of a shared storage: trials per second of many workers that only ask and tell.

    python benchmarks/light_workers.py --storage postgresql://me@db/studies [--workers 1 8 64] [--trials 5]

Each worker is a process with its own connections, like a host. A trial has five random parameters and two objectives,
and all workers begin together. The study is deleted at the end. A lost or repeated trial ends the script with an error.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
import uuid
from multiprocessing.context import ForkServerContext
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.trial import TrialState

from nas_compress.search.storage.optuna_storage import opened_storage

SPACE: dict[str, BaseDistribution] = {name: FloatDistribution(0, 1) for name in "abcde"}
NO_JOURNAL = Path("none")
PRELOADED = ["nas_compress.search.storage.optuna_storage", "alembic.script", "sqlalchemy.dialects.postgresql.psycopg"]


Timed = tuple[list[float], float, float]
"""Alternating seconds of ask and tell, and the first and the last moment of one worker."""


def work(url: str, name: str, seed: int, trials: int, ready: Barrier, told: Queue[Timed]) -> None:
    """Ask and tell a number of trials as soon as all workers are ready."""
    seconds: list[float] = []
    with opened_storage(url, NO_JOURNAL) as storage:
        study = optuna.load_study(study_name=name, storage=storage, sampler=optuna.samplers.RandomSampler(seed=seed))
        ready.wait()
        begun = time.monotonic()
        for _ in range(trials):
            asked = time.monotonic()
            trial = study.ask(SPACE)
            answered = time.monotonic()
            study.tell(trial, [trial.params["a"], 1 - trial.params["a"]])
            seconds += [answered - asked, time.monotonic() - answered]
        told.put((seconds, begun, time.monotonic()))


def measure(url: str, workers: int, trials: int) -> str:
    """Run workers on a new study and check that every trial exists once."""
    name = f"light-workers-{uuid.uuid4().hex[:8]}"
    context = multiprocessing.get_context("forkserver")
    with opened_storage(url, NO_JOURNAL) as storage:
        study = optuna.create_study(study_name=name, storage=storage, directions=["maximize", "minimize"])
        found = _run(context, url, name, workers, trials)
        finished = [trial.number for trial in study.get_trials(states=(TrialState.COMPLETE,))]
        optuna.delete_study(study_name=name, storage=storage)
    if finished != list(range(workers * trials)):
        raise SystemExit(f"{workers * trials} trials must be complete, each once, but got {finished}")
    seconds = np.array([part for part, _, _ in found])
    lasted = max(end for _, _, end in found) - min(begun for _, begun, _ in found)
    cells = (workers, len(finished), f"{len(finished) / lasted:.1f}", _ms(seconds[:, ::2]), _ms(seconds[:, 1::2]))
    return f"| {' | '.join(map(str, cells))} |"


def _run(context: ForkServerContext, url: str, name: str, workers: int, trials: int) -> list[Timed]:
    ready, told = context.Barrier(workers), context.Queue()
    running = [
        context.Process(target=work, args=(url, name, seed, trials, ready, told), daemon=True)
        for seed in range(workers)
    ]
    for process in running:
        process.start()
    found = [told.get(timeout=600) for _ in running]
    for process in running:
        process.join()
    return found


def _ms(seconds: np.ndarray) -> str:
    low, middle, high = 1000 * np.quantile(seconds, [0.05, 0.5, 0.95])
    return f"{middle:.0f} [{low:.0f}-{high:.0f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--storage", required=True)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--trials", type=int, default=5)
    given = parser.parse_args()
    multiprocessing.get_context("forkserver").set_forkserver_preload(PRELOADED)
    print("| workers | trials | per second | ask, ms: median [90 %] | tell, ms: median [90 %] |\n|---|---|---|---|---|")
    for workers in given.workers:
        print(measure(given.storage, workers, given.trials), flush=True)


if __name__ == "__main__":
    main()
