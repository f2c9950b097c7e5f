"""Run NePS's PriMO on the candidates of a study for a number of seconds.

    /path/to/neps/bin/python benchmarks/peers/primo.py --seed 0 --out live/primo-0

It starts with MO-ASHA at 1, 4 and 14 of 14 epochs, followed by Bayesian optimisation at 14 epochs; no priors, other
settings by default. A training that waits for its promotion is paused in a thread, so no epoch is repeated.
"""

from __future__ import annotations

import logging
import os
import queue
import random
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import cast

import neps
import numpy as np
import torch

from domains import Domain, Interval, candidate_of, domains_of
from finds import Finds
from workplace import Costs, Report, Workplace, contest_parser, open_workplace, own_cache, warmed

FAILED: Costs = (1.0, 2.0, 8.0)
"""Costs reported for a failed candidate: worse than any other."""


class Training:
    """A training in a thread, paused between the requested epochs."""

    def __init__(self, work: Callable[[Report], Costs | None]) -> None:
        self._orders: queue.Queue[int] = queue.Queue()
        self._answers: queue.Queue[Costs] = queue.Queue()
        self._work, self._wanted = work, 0
        threading.Thread(target=self._run, daemon=True).start()

    def until(self, epoch: int) -> Costs:
        """Continue to the end of an epoch and return the costs there."""
        self._orders.put(epoch)
        return self._answers.get()

    def _run(self) -> None:
        self._wanted = self._orders.get()
        try:
            costs = self._work(self._report)
        except Exception as error:  # whatever fails is told as the worst
            logging.getLogger(__name__).warning("%s", error)
            costs = None
        while True:
            self._answers.put(costs or FAILED)
            self._orders.get()

    def _report(self, epoch: int, costs: Costs) -> bool:
        if epoch >= self._wanted:
            self._answers.put(costs)
            self._wanted = self._orders.get()
        return False


def as_neps(domain: Domain) -> object:
    """Convert one parameter to that of NePS."""
    if isinstance(domain, Interval):
        return neps.Float(domain.low, domain.high, log=domain.log)
    if isinstance(domain, range) and domain.step == 1:
        return neps.Integer(domain.start, domain[-1])
    return neps.Categorical(tuple(domain))


def search(place: Workplace, finds: Finds) -> None:
    """Search until the process is ended."""
    attributes = {name: as_neps(domain) for name, domain in domains_of(place.parts.space.suggest).items()}
    attributes["epochs"] = neps.IntegerFidelity(1, place.epochs)
    space = type("Space", (neps.PipelineSpace,), attributes)()
    trainings: dict[Path, Training] = {}

    def begin(params: dict[str, object], number: int) -> Training:
        candidate = candidate_of(place.parts.space.suggest, params)
        model = finds.folder / "models" / f"{number}.onnx"

        def work(report: Report) -> Costs | None:
            costs = place.try_(candidate, model, report)
            finds.add(model)
            return costs

        return Training(work)

    # NePS gives the parameters by name
    def evaluate(
        pipeline_directory: Path, previous_pipeline_directory: Path | None, **config: object
    ) -> dict[str, object]:
        epochs = cast(int, config.pop("epochs"))
        waiting = trainings.pop(previous_pipeline_directory, None) if previous_pipeline_directory else None
        training = waiting or begin(config, len(list(pipeline_directory.parent.iterdir())))
        trainings[pipeline_directory] = training
        with torch.random.fork_rng():  # a trial seeds torch's generator, from which NePS draws
            costs = training.until(epochs)
        return {"objective_to_minimize": list(costs)}

    neps.run(
        evaluate,
        space,
        root_directory=finds.folder / "neps",
        optimizer=("primo", {"prior_centers": {}}),
        total_evaluations_to_spend=1_000_000,
        ignore_errors=True,
    )


def main() -> None:
    given = contest_parser((__doc__ or "").splitlines()[0]).parse_args()
    out = given.out.absolute()
    own_cache(out)
    random.seed(given.seed)
    np.random.seed(given.seed)
    place = warmed(open_workplace(given.study, given.seed), out)
    torch.manual_seed(given.seed)
    # its budgets are counted in evaluations; what is found is on disk when the time is over
    signal.signal(signal.SIGPROF, lambda number, frame: os._exit(0))
    signal.setitimer(signal.ITIMER_PROF, given.seconds)
    search(place, Finds(folder=out))


if __name__ == "__main__":
    main()
