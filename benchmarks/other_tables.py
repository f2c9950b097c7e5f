"""Compare samplers on tables of networks that other people trained, and on this project's own (`tables/`).

    pip install --no-deps nas-bench-graph==1.4.0 analog-nasbench==0.1.3
    python benchmarks/other_tables.py [--tables cs digits] [--contenders ehvi tpe] [--seeds 20] --out searches.csv
    python benchmarks/other_tables.py --show searches.csv

A search evaluates networks until it has seen so many different ones; a network that it proposes again costs nothing.
The volume is that of the networks evaluated, above the 5th percentile of the accuracy (own tables: above a half) and
below the worst figures, with latency, parameters and bytes in decades, as a fraction of the volume of the whole table.
The table has medians and quartiles over the seeds, and in how many seeds `ehvi` is better and worse, with Wilcoxon's p.

| contender | |
|---|---|
| `random`, `nsga2`, `tpe`, `gp` | Optuna's; `nsga2` with a population of 20 |
| `auto` | TPE of all parameters together: what OptunaHub's `auto_sampler` takes here (choices, under 4 objectives) |
| `ehvi` | the default of this project; figures except the accuracy are looked up |
| `ehvi_blind` | the same without look-ups |
| `neps` | PriMO of NePS, in an environment with `neural-pipeline-search` |
"""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Hashable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import TPESampler
from scipy.stats import wilcoxon

from nas_compress.search.samplers.observations import Known
from nas_compress.search.samplers.table import make_sampler, proposal_context
from nas_compress.values.pareto import volume_gain

sys.path.insert(0, str(Path(__file__).parent / "tables"))
from spaces import NAMES, Table, costs, table

BUDGETS = (25, 50, 100, 200)
CONTENDERS = ("random", "nsga2", "tpe", "auto", "gp", "ehvi_blind", "ehvi")
WASTE = 5
"""A search ends after this many times its budget in proposals."""

Volumes = list[float]
"""Volume after 1, 2, 3, ... different networks."""


class Archive:
    """Volume of the networks evaluated so far."""

    def __init__(self, known: Table) -> None:
        self._known = known
        self._front = np.empty((0, len(known.corner)))
        self._seen: set[Hashable] = set()
        self._volume = 0.0
        self.volumes: Volumes = []

    def add(self, network: Hashable) -> tuple[float, ...]:
        """Return the figures of a network; a new one counts."""
        figures = self._known.of(network)
        if network not in self._seen:
            self._seen.add(network)
            row = costs(figures) - self._known.corner
            if (row < 0).all() and (gain := volume_gain(row, self._front)) > 0:
                self._volume += gain / self._known.whole
                self._front = np.vstack([self._front[~(self._front >= row).all(axis=1)], row])
            self.volumes.append(self._volume)
        return figures


def search(name: str, contender: str, seed: int, budget: int) -> tuple[Volumes, float]:
    """Search a table; return the volumes and the seconds of the process."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", ExperimentalWarning)
    known = table(name)
    archive = Archive(known)
    budget = min(budget, len(known.figures))
    started = time.process_time()
    if contender == "neps":
        from neps_contender import search_with_neps

        search_with_neps(known, archive.add, seed=seed, budget=budget)
        return archive.volumes, time.process_time() - started
    study = optuna.create_study(directions=["maximize", *["minimize"] * (len(known.metrics) - 1)])
    study.set_metric_names(list(known.metrics))
    auto = TPESampler(seed=seed, multivariate=True, constant_liar=True)

    def look_up(network: Hashable) -> Known:
        return Known(values=(None, *known.of(network)[1:]), constraints={})

    for number in range(WASTE * budget):
        if len(archive.volumes) == budget:
            break
        context = proposal_context(
            study_seed=seed,
            finished=number,
            startup_trials=10,
            space=known.suggest,
            costs=None if contender == "ehvi_blind" else look_up,
        )
        study.sampler = auto if contender == "auto" else make_sampler(contender.removesuffix("_blind"), context)
        trial = study.ask()
        figures = archive.add(known.suggest(trial))
        own = contender.startswith(
            "ehvi"
        )  # it takes the logarithm itself; the others get decades, as the volume has them
        study.tell(trial, figures if own else (figures[0], *costs(figures)[1:].tolist()))
    return archive.volumes, time.process_time() - started


def at(volumes: Volumes, budget: int) -> float:
    """Return the volume after a number of networks."""
    return volumes[min(budget, len(volumes)) - 1]


def show(path: Path) -> None:
    """Print the comparison of all searches in a file."""
    found: dict[str, dict[str, dict[int, list[float]]]] = defaultdict(lambda: defaultdict(dict))
    seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
    with path.open(newline="", encoding="utf-8") as handle:
        for name, contender, seed, took, *volumes in csv.reader(handle):
            found[name][contender][int(seed)] = [float(volume) for volume in volumes]
            seconds[name, contender].append(float(took))
    print("| table | contender | seeds | " + " | ".join(map(str, BUDGETS)) + " | s |")
    print("|---" * (len(BUDGETS) + 4) + "|")
    for name, contenders in found.items():
        for contender, runs in contenders.items():
            cells = [cell(runs, contenders.get("ehvi", {}), place) for place in range(len(BUDGETS))]
            took = statistics.median(seconds[name, contender])
            print(f"| {name} | {contender} | {len(runs)} | " + " | ".join(cells) + f" | {took:.1f} |")


def cell(runs: dict[int, list[float]], ours: dict[int, list[float]], place: int) -> str:
    """Return median, quartiles, and the seeds in which `ehvi` is better and worse with p."""
    values = [volumes[place] for volumes in runs.values() if place < len(volumes)]
    if not values:
        return ""
    low, middle, high = np.percentile(values, [25, 50, 75])
    told = f"{middle:.3f} ({low:.3f}-{high:.3f})"
    shared = [seed for seed in runs if seed in ours and place < min(len(runs[seed]), len(ours[seed]))]
    gains = np.array([ours[seed][place] - runs[seed][place] for seed in shared])
    if runs is ours or not gains.any():
        return told
    better, worse = int((gains > 0).sum()), int((gains < 0).sum())
    return f"{told} {better}/{worse} p={wilcoxon(gains).pvalue:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tables", nargs="+", default=list(NAMES), choices=NAMES)
    parser.add_argument("--contenders", nargs="+", default=list(CONTENDERS), choices=[*CONTENDERS, "neps"])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--budget", type=int, default=BUDGETS[-1])
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--out", type=Path, help="a CSV file to which searches are added")
    parser.add_argument("--show", type=Path, help="print the comparison of the searches in this file")
    given = parser.parse_args()
    if given.show is not None:
        show(given.show)
        return
    budgets = [budget for budget in BUDGETS if budget <= given.budget]
    with ProcessPoolExecutor(given.processes) as pool:
        for name in given.tables:
            kept = [budget for budget in budgets if budget < len(table(name).figures)]
            print(f"{name}: {len(table(name).figures)} networks, {table(name).members} on the front", flush=True)
            for contender in given.contenders:
                seeds = range(given.first, given.first + given.seeds)
                jobs = [pool.submit(search, name, contender, seed, max(kept)) for seed in seeds]
                rows = []
                for seed, job in zip(seeds, jobs, strict=True):
                    volumes, took = job.result()
                    rows.append([name, contender, seed, f"{took:.1f}", *(f"{at(volumes, each):.4f}" for each in kept)])
                middle = [statistics.median(float(row[4 + place]) for row in rows) for place in range(len(kept))]
                took = statistics.median(float(row[3]) for row in rows)
                print(f"{contender:12} " + " ".join(f"{each:.3f}" for each in middle) + f"  {took:.1f} s", flush=True)
                if given.out is not None:
                    with given.out.open("a", newline="", encoding="utf-8") as handle:
                        csv.writer(handle, lineterminator="\n").writerows(rows)


if __name__ == "__main__":
    main()
