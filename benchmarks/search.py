"""Every sampler with every stopping rule, replayed on the recorded curves of `benchmarks/curves/`.

    python benchmarks/search.py [--seeds 20] [--epochs 360] [--pairs tpe:none tpe:moasha] [--processes 2]

A proposal is answered from the table: its accuracy after each epoch, and its file's figures where it was trained to
the end. A candidate met again costs nothing and is told as it was, like in a run. `volume` is the hypervolume of the
fully trained candidates (accuracy above a half, decades of latency and of size below the table's worst) as a fraction
of what the whole table's front has: medians over seeds at a quarter, a half and all of the epochs. `epochs` is the
median number of epochs until the median volume that the same seeds reach with `tpe:none`; `-` where half of the seeds
never do. `wrong` is the fraction of stopped trials that the candidates trained by then would not have dominated.
`wins` and `p` (Wilcoxon, two-sided) compare the final volume with that of the same sampler and seeds without a rule.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import optuna
from scipy.stats import wilcoxon

from nas_compress.dominance import hypervolume, non_dominated
from nas_compress.stopping.adapter import Watch
from nas_compress.stopping.catalogue import RULES, make_rule
from nas_compress.study.samplers import SAMPLERS, sampler_for

HERE = Path(__file__).parent / "curves"
sys.path.insert(0, str(HERE))
from record import NAMES  # noqa: E402 - the recipe of the table lies beside it

from space import suggest  # noqa: E402

VALIDATION = 359
"""Images of the validation split of digits."""


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """One candidate: accuracy after each epoch, and its file's accuracy, latency and size."""

    curve: tuple[float, ...]
    figures: tuple[float, float, float]

    @property
    def costs(self) -> tuple[float, float, float]:
        """Small is good; latency and size by their logarithm."""
        accuracy, latency, size = self.figures
        return -accuracy, float(np.log10(latency)), float(np.log10(size))


@cache
def table() -> dict[tuple[str, ...], Recorded]:
    """The recorded candidates by their parameters."""
    found = {}
    with (HERE / "digits.csv").open(newline="", encoding="utf-8") as handle:
        for row in csv.DictReader(handle):
            curve = tuple(int(row[name]) / VALIDATION for name in row if name.startswith("epoch_"))
            figures = (int(row["right"]) / VALIDATION, float(row["latency_ms"]), float(row["size_bytes"]))
            found[tuple(row[name] for name in NAMES)] = Recorded(curve=curve, figures=figures)
    return found


@cache
def reference() -> tuple[np.ndarray, float]:
    """The corner of the hypervolume and the volume of the whole table's front."""
    costs = np.array([recorded.costs for recorded in table().values()])
    corner = np.array([-0.5, costs[:, 1].max() + 0.01, costs[:, 2].max() + 0.01])
    return corner, hypervolume(costs[non_dominated(costs)], corner)


@dataclass(frozen=True, kw_only=True)
class Replay:
    """One search: (epochs spent, volume) after each candidate that was trained, its trials and stops."""

    history: tuple[tuple[int, float], ...]
    trials: int
    stopped: int
    wrong: int

    def volume_at(self, epochs: float) -> float:
        """The volume after so many epochs."""
        return max((volume for spent, volume in self.history if spent <= epochs), default=0.0)

    def epochs_to(self, volume: float) -> float:
        """Epochs until a volume; infinite where it was not reached."""
        return min((spent for spent, reached in self.history if reached >= volume), default=float("inf"))


def replay(sampler: str, rule_name: str, seed: int, budget: int) -> Replay:
    """Search until so many epochs are spent, every candidate is known, or most proposals repeat one."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    planned = len(next(iter(table().values())).curve)
    rule = make_rule(rule_name, steps=planned)
    study = optuna.create_study(directions=["maximize", "minimize", "minimize"])
    corner, whole = reference()
    known: dict[tuple[str, ...], tuple[float, float, float]] = {}
    trained: list[tuple[float, float, float]] = []
    history: list[tuple[int, float]] = []
    spent = stopped = wrong = trials = 0
    while spent < budget and len(known) < len(table()) and trials < 2 * len(table()):
        study.sampler = sampler_for(sampler, seed=seed, finished=trials, startup_trials=10)
        trial = study.ask()
        suggest(trial)
        trials += 1
        key = tuple(str(trial.params[name]) for name in NAMES)
        recorded = table()[key]
        if key not in known:
            costs = recorded.figures[1:]
            watch = Watch(trial=trial, rule=rule, known=costs, planned=planned)
            epoch, reason = planned, None
            for epoch, reached in enumerate(recorded.curve, 1):
                reason = watch.report(epoch, reached)
                if reason is not None:
                    break
            spent += epoch
            if reason is None:
                trained.append(recorded.costs)
                history.append((spent, hypervolume(np.array(trained), corner) / whole))
                known[key] = recorded.figures
            else:
                stopped += 1
                ends = np.array(trained).reshape(-1, 3)
                wrong += not (ends <= np.array(recorded.costs)).all(axis=1).any()
                known[key] = (recorded.curve[epoch - 1], *costs)
        study.tell(trial, known[key])
    return Replay(history=tuple(history), trials=trials, stopped=stopped, wrong=wrong)


def line(name: str, runs: list[Replay], plain: list[Replay] | None, target: float, budget: int) -> str:
    """One row of the table."""
    volumes = " ".join(
        f"{statistics.median(run.volume_at(budget * part) for run in runs):.3f}" for part in (0.25, 0.5, 1)
    )
    reached = statistics.median_low(run.epochs_to(target) for run in runs)
    stops = sum(run.stopped for run in runs)
    told = f"{name:20} {volumes}  {reached if np.isfinite(reached) else '-':>6}  "
    told += f"{statistics.median(run.trials for run in runs):6.0f}  "
    told += f"{sum(run.wrong for run in runs) / stops:5.0%}" if stops else "    -"
    if plain is not None:
        ours, theirs = ([run.volume_at(budget) for run in each] for each in (runs, plain))
        gains = np.subtract(ours, theirs)
        p = wilcoxon(ours, theirs).pvalue if gains.any() else 1.0
        told += f"  {int((gains > 0).sum()):2d}/{len(gains)}  {p:.3f}"
    return told


def main() -> None:
    every = [f"{sampler}:{rule}" for sampler, rule in product([name for name in SAMPLERS if name != "gp"], RULES)]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=360)
    parser.add_argument("--pairs", nargs="+", default=every, help="sampler:rule; all but gp, which takes hours")
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    pairs = sorted({"tpe:none", *given.pairs}, key=lambda pair: (pair != "tpe:none", not pair.endswith(":none")))
    print(f"{len(table())} candidates, {given.seeds} seeds, {given.epochs} epochs")
    print(f"{'sampler:rule':20} volume at 1/4 1/2 1/1  epochs  trials  wrong  wins  p", flush=True)
    done: dict[str, list[Replay]] = {}
    with ProcessPoolExecutor(given.processes) as pool:
        for pair in pairs:
            sampler, rule = pair.split(":")
            jobs = [pool.submit(replay, sampler, rule, seed, given.epochs) for seed in range(given.seeds)]
            done[pair] = [job.result() for job in jobs]
            target = statistics.median(run.volume_at(given.epochs) for run in done["tpe:none"])
            plain = done.get(f"{sampler}:none") if rule != "none" else None
            print(line(pair, done[pair], plain, target, given.epochs), flush=True)


if __name__ == "__main__":
    main()
