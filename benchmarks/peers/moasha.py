"""Run Syne Tune's MOASHA on the candidates of a study for a number of seconds.

    /path/to/syne-tune/bin/python benchmarks/peers/moasha.py --seed 0 --out live/moasha-0 [--one-process]

With Syne Tune's own tuner and local backend each trial is a process that loads libraries, teacher and data.
`--one-process` asks and tells the same scheduler in a loop of this process. Rungs are after 1, 3 and 9 of 14 epochs,
from its default reduction factor.
"""

from __future__ import annotations

import datetime
import json
import os
import random
from dataclasses import asdict
from pathlib import Path

import numpy as np
from syne_tune import Tuner
from syne_tune.backend import LocalBackend
from syne_tune.backend.trial_status import Trial
from syne_tune.config_space import choice, loguniform, randint, uniform
from syne_tune.optimizer.scheduler import SchedulerDecision
from syne_tune.optimizer.schedulers.multiobjective.moasha import MOASHA

from domains import Domain, Interval, candidate_of, domains_of
from finds import Finds
from workplace import Costs, Workplace, contest_parser, open_workplace, own_cache, warmed

METRICS = ["error", "latency", "size"]
POLL_S = 0.1
"""Seconds between polls of the tuner; its default of 5 s is longer than most trials here."""


def as_syne_tune(domain: Domain) -> object:
    """Convert one parameter to that of Syne Tune."""
    if isinstance(domain, Interval):
        return (loguniform if domain.log else uniform)(domain.low, domain.high)
    if isinstance(domain, range) and domain.step == 1:
        return randint(domain.start, domain[-1])
    return choice(list(domain))


def make_scheduler(place: Workplace, constants: dict[str, object]) -> MOASHA:
    """Make MOASHA with its defaults; `constants` are part of every configuration."""
    space = {name: as_syne_tune(domain) for name, domain in domains_of(place.parts.space.suggest).items()}
    return MOASHA(
        config_space=space | constants,
        metrics=METRICS,
        time_attr="epoch",
        max_t=place.epochs,
        random_seed=place.parts.spec.seed,
    )


def result_of(epoch: int, costs: Costs) -> dict[str, float]:
    """Return the report of a trial."""
    return {"epoch": epoch, **dict(zip(METRICS, costs, strict=True))}


def search_by_tuner(place: Workplace, finds: Finds, study: str, seconds: float) -> None:
    """Search with Syne Tune's tuner and one worker, one process per trial."""
    clock = json.dumps(asdict(finds.clock))
    scheduler = make_scheduler(
        place, {"study": study, "seed": place.parts.spec.seed, "folder": str(finds.folder), "clock": clock}
    )
    Tuner(
        trial_backend=LocalBackend(
            entry_point=str(Path(__file__).with_name("moasha_trial.py")), pass_args_as_json=True, rotate_gpus=False
        ),
        scheduler=scheduler,
        stop_criterion=lambda status: finds.seconds >= seconds,
        save_tuner=False,  # it pickles the criterion, and nothing is resumed here
        n_workers=1,
        sleep_time=POLL_S,
        max_failures=10_000,
        trial_backend_path=str(finds.folder / "trials"),
    ).run()


def search_by_loop(place: Workplace, finds: Finds, seconds: float) -> None:
    """Search with the same scheduler, asked and told in this process."""
    scheduler, number = make_scheduler(place, {}), 0
    while finds.seconds < seconds:
        suggestion = scheduler.suggest()
        trial = Trial(trial_id=number, config=suggestion.config, creation_time=datetime.datetime.now())
        scheduler.on_trial_add(trial)

        def report(epoch: int, costs: Costs, trial: Trial = trial) -> bool:
            return scheduler.on_trial_result(trial, result_of(epoch, costs)) == SchedulerDecision.STOP

        model = finds.folder / "models" / f"{number}.onnx"
        try:
            costs = place.try_(candidate_of(place.parts.space.suggest, suggestion.config), model, report)
        except RuntimeError:
            scheduler.on_trial_error(trial)
        else:
            if costs is not None:
                finds.add(model)
                scheduler.on_trial_complete(trial, result_of(place.epochs, costs))
            else:
                scheduler.on_trial_remove(trial)
        number += 1
    print(f"{number} trials begun")


def main() -> None:
    parser = contest_parser((__doc__ or "").splitlines()[0])
    parser.add_argument("--one-process", action="store_true")
    given = parser.parse_args()
    out = given.out.absolute()
    own_cache(out)
    os.environ["SYNETUNE_FOLDER"] = str(out / "syne-tune")
    random.seed(given.seed)
    np.random.seed(given.seed)
    place = warmed(open_workplace(given.study, given.seed), out)
    finds = Finds(folder=out)
    if given.one_process:
        search_by_loop(place, finds, given.seconds)
    else:
        search_by_tuner(place, finds, given.study, given.seconds)


if __name__ == "__main__":
    main()
