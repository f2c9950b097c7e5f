"""Replay every sampler with every stopping rule on the recorded curves of `benchmarks/curves/`.

    python benchmarks/search.py [--tables digits] [--seeds 20] [--pairs tpe:none tpe:moasha] [--processes 2]

The table gives each proposal its accuracy after each epoch, and the figures of its file after full training. A repeated
candidate is handled as in a run. Columns:

- `volume`: hypervolume of the fully trained candidates (accuracy above a half, decades of latency and of size below the
  worst of the table) as a fraction of that of the whole table; medians over seeds at a quarter, a half and all epochs.
- `near`: the same for candidates within NEAR of the best accuracy of the table, which a replay takes for the teacher's.
- `epochs`: median number of epochs until the median volume of `tpe:none` for the same seeds; `-` if half of the seeds
  never reach it.
- `wrong`: fraction of stopped trials not dominated by the candidates trained by then.
- `looked`: number of cost lookups before proposals; each takes an export and a latency, and no epoch.
- `wins` and `p` (Wilcoxon, two-sided): final volume against the same sampler and seeds without a rule, then against
  `tpe:none`.

`--out` writes medians and quartiles over the epochs for `search_plot.py`.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import statistics
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from scipy.stats import wilcoxon

from nas_compress.search.samplers.observations import Known
from nas_compress.search.samplers.table import SAMPLERS, make_sampler, proposal_context
from nas_compress.stopping.optuna_adapter import Watch
from nas_compress.stopping.rules import Overruled, Rule
from nas_compress.stopping.table import RULES, make_rule
from nas_compress.values.pareto import hypervolume, non_dominated, volume_gain

HERE = Path(__file__).parent / "curves"
sys.path.insert(0, str(HERE))
from record import NAMES, SPACES, points  # noqa: E402 - the recipe of the tables lies beside them

EPOCHS = {"digits": 360, "fashion-mnist": 360}
"""Budget of a replay: 40 full trainings, a tenth of the first table and two fifths of the second."""

NEAR = 0.03

GRID = 60
"""Number of points of a line in the plot."""


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """One candidate: accuracy after each epoch, and its file's accuracy, latency and size."""

    curve: tuple[float, ...]
    figures: tuple[float, float, float]

    @property
    def costs(self) -> np.ndarray:
        """Costs to minimise; latency and size by their logarithm."""
        accuracy, latency, size = self.figures
        return np.array([-accuracy, np.log10(latency), np.log10(size)])


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """The recorded candidates by parameters, the reference of the hypervolume, and the volume of the whole front.

    near: the reference and the volume for candidates near the best accuracy.
    """

    rows: dict[tuple[str, ...], Recorded]
    by_candidate: dict[object, Recorded]
    suggest: Callable[[optuna.Trial], object]
    corner: np.ndarray
    whole: float
    near: tuple[np.ndarray, float]

    @property
    def teacher(self) -> float:
        """Accuracy of the teacher: the table's best."""
        return max(recorded.figures[0] for recorded in self.rows.values())

    @property
    def planned(self) -> int:
        """Number of epochs of a full training."""
        return len(next(iter(self.rows.values())).curve)


@cache
def read_table(name: str) -> Table:
    """Read a table with its space."""
    spec = importlib.util.spec_from_file_location(SPACES[name].removesuffix(".py"), HERE / SPACES[name])
    if spec is None or spec.loader is None:
        raise RuntimeError(f"{SPACES[name]} is no module")
    space = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(space)
    rows = {}
    with (HERE / f"{name}.csv").open(newline="", encoding="utf-8") as handle:
        for row in csv.DictReader(handle):
            count = int(row["validation"])
            curve = tuple(int(row[column]) / count for column in row if column.startswith("epoch_"))
            figures = (int(row["right"]) / count, float(row["latency_ms"]), float(row["size_bytes"]))
            rows[tuple(row[column] for column in NAMES)] = Recorded(curve=curve, figures=figures)
    costs = np.array([recorded.costs for recorded in rows.values()])
    corner = np.array([-0.5, costs[:, 1].max() + 0.01, costs[:, 2].max() + 0.01])
    whole = hypervolume(costs[non_dominated(costs)], corner)
    best = np.array([costs[:, 0].min() + NEAR, *corner[1:]])
    members = costs[(costs < best).all(axis=1)]
    near = best, hypervolume(members[non_dominated(members)], best)
    by_candidate = {
        space.suggest(optuna.trial.FixedTrial(dict(zip(NAMES, point, strict=True)))): rows[tuple(map(str, point))]
        for point in points(name)
    }
    return Table(rows=rows, by_candidate=by_candidate, suggest=space.suggest, corner=corner, whole=whole, near=near)


@dataclass(frozen=True, kw_only=True)
class Replay:
    """One search: (epochs spent, volume, volume near the best) after each full training, its trials and stops.

    again: number of stopped candidates that were proposed again and trained.
    looked: number of cost lookups.
    """

    history: tuple[tuple[int, float, float], ...]
    trials: int
    stopped: int
    again: int
    wrong: int
    looked: int

    def volume_at(self, epochs: float) -> float:
        """Return the volume after a number of epochs."""
        return max((volume for spent, volume, _ in self.history if spent <= epochs), default=0.0)

    def near_at(self, epochs: float) -> float:
        """Return the volume near the best after a number of epochs."""
        return max((near for spent, _, near in self.history if spent <= epochs), default=0.0)

    def epochs_to(self, volume: float) -> float:
        """Return the epochs until a volume; infinite if it was not reached."""
        return min((spent for spent, reached, _ in self.history if reached >= volume), default=float("inf"))


class Progress:
    """Volume of the candidates trained so far."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._front = np.empty((0, 3))
        self.trained: list[np.ndarray] = []
        self.volume = 0.0

    def add(self, recorded: Recorded) -> None:
        """Add a candidate; the volume is computed only if the front grows."""
        row = recorded.costs - self._table.corner
        self.trained.append(row)
        if (row < 0).all() and (gain := volume_gain(row, self._front)) > 0:
            self.volume += gain / self._table.whole
            self._front = np.vstack([self._front[~(self._front >= row).all(axis=1)], row])

    @property
    def near(self) -> float:
        """Volume near the best accuracy, as a fraction of the table's."""
        corner, whole = self._table.near
        rows = np.array(self.trained) + self._table.corner
        rows = rows[(rows < corner).all(axis=1)]
        return float(hypervolume(rows[non_dominated(rows)], corner) / whole) if len(rows) else 0.0

    def dominates(self, recorded: Recorded) -> bool:
        """Return True if a trained candidate is at least as good in every cost."""
        return any((row <= recorded.costs - self._table.corner).all() for row in self.trained)


def replay(name: str, sampler: str, rule_name: str, seed: int, budget: int) -> Replay:
    """Search until the epochs are spent, every candidate is trained, or most proposals are repeats."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    table = read_table(name)
    rule = make_rule(rule_name, steps=table.planned)
    study = optuna.create_study(directions=["maximize", "minimize", "minimize"])
    with warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
        study.set_metric_names(["accuracy", "latency_ms", "size_bytes"])
    progress = Progress(table)
    told: dict[tuple[str, ...], tuple[float, float, float]] = {}
    cut: set[tuple[str, ...]] = set()
    looked: list[object] = []

    def costs(candidate: object) -> Known:
        looked.append(candidate)
        return Known(values=(None, *table.by_candidate[candidate].figures[1:]), constraints={})

    history: list[tuple[int, float, float]] = []
    spent = stopped = again = wrong = trials = 0
    while spent < budget and len(progress.trained) < len(table.rows) and trials < 4 * len(table.rows):
        context = proposal_context(
            study_seed=seed, finished=trials, startup_trials=10, space=table.suggest, costs=costs, teacher=table.teacher
        )
        study.sampler = make_sampler(sampler, context)
        trial = study.ask()
        table.suggest(trial)
        trials += 1
        key = tuple(str(trial.params[column]) for column in NAMES)
        recorded = table.rows[key]
        if key not in told or key in cut:
            acting = Overruled(rule=rule) if key in cut else rule
            again += key in cut
            epoch = epochs_of(recorded, trial, acting)
            spent += epoch
            if epoch == table.planned:
                cut.discard(key)
                progress.add(recorded)
                history.append((spent, progress.volume, progress.near))
                told[key] = recorded.figures
            else:
                cut.add(key)
                stopped += 1
                wrong += not progress.dominates(recorded)
                told[key] = (recorded.curve[epoch - 1], *recorded.figures[1:])
        study.tell(trial, told[key])
    return Replay(history=tuple(history), trials=trials, stopped=stopped, again=again, wrong=wrong, looked=len(looked))


def epochs_of(recorded: Recorded, trial: optuna.Trial, rule: Rule) -> int:
    """Return the number of epochs of a candidate under the rule."""
    planned = len(recorded.curve)
    watch = Watch(trial=trial, rule=rule, known=recorded.figures[1:], planned=planned)
    return next((epoch for epoch, reached in enumerate(recorded.curve, 1) if watch.report(epoch, reached)), planned)


def line(name: str, runs: list[Replay], others: list[list[Replay]], target: float, budget: int) -> str:
    """Return one row of the table, with wins and p against each of the others."""
    volumes = " ".join(
        f"{statistics.median(run.volume_at(budget * part) for run in runs):.3f}" for part in (0.25, 0.5, 1)
    )
    reached = statistics.median_low(run.epochs_to(target) for run in runs)
    stops, count = sum(run.stopped for run in runs), len(runs)
    near = " ".join(f"{statistics.median(run.near_at(budget * part) for run in runs):.3f}" for part in (0.25, 0.5, 1))
    told = f"{name:22} {volumes}  {near}  {reached if np.isfinite(reached) else '-':>6}  "
    told += f"{statistics.median(run.trials for run in runs):6.0f}  {stops / count:7.1f}  "
    told += f"{sum(run.again for run in runs) / count:5.1f}  {sum(run.looked for run in runs) / count:6.1f}  "
    told += f"{sum(run.wrong for run in runs) / stops:5.0%}" if stops else "    -"
    for other in others:
        ours, theirs = ([run.volume_at(budget) for run in each] for each in (runs, other))
        gains = np.subtract(ours, theirs)
        p = wilcoxon(ours, theirs).pvalue if gains.any() else 1.0
        told += f"  {int((gains > 0).sum()):2d}/{count}  {p:.3f}"
    return told


def lines(table: str, pair: str, runs: list[Replay], budget: int) -> list[list[object]]:
    """Return the quartiles of the volume over the epochs, for the plot."""
    drawn = []
    for epochs in np.linspace(0, budget, GRID + 1)[1:]:
        low, middle, high = np.percentile([run.volume_at(epochs) for run in runs], [25, 50, 75])
        drawn.append([table, pair, len(runs), f"{epochs:.1f}", f"{low:.4f}", f"{middle:.4f}", f"{high:.4f}"])
    return drawn


def main() -> None:
    every = [
        f"{sampler}:{rule}"
        for sampler, rule in product([name for name in SAMPLERS if name not in ("gp", "optuna_tpe")], RULES)
    ]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tables", nargs="+", default=list(SPACES), choices=list(SPACES))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--epochs", type=int, help="a budget other than the table's own")
    parser.add_argument("--pairs", nargs="+", default=every, help="sampler:rule; all but gp, which takes hours")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, help="a CSV file for the plot, to which rows are added")
    given = parser.parse_args()
    pairs = sorted({"tpe:none", *given.pairs}, key=lambda pair: (pair != "tpe:none", not pair.endswith(":none"), pair))
    seeds = range(given.first, given.first + given.seeds)
    with ProcessPoolExecutor(given.processes) as pool:
        for table in given.tables:
            budget = given.epochs or EPOCHS[table]
            print(f"{table}: {len(read_table(table).rows)} candidates, seeds {seeds}, {budget} epochs")
            print(
                f"{'sampler:rule':22} volume at 1/4 1/2 1/1  near at 1/4 1/2 1/1  "
                "epochs  trials  stopped  again  looked  wrong  wins  p",
                flush=True,
            )
            done: dict[str, list[Replay]] = {}
            for pair in pairs:
                sampler, rule = pair.split(":")
                jobs = [pool.submit(replay, table, sampler, rule, seed, budget) for seed in seeds]
                runs = done[pair] = [job.result() for job in jobs]
                target = statistics.median(run.volume_at(budget) for run in done["tpe:none"])
                plain = [
                    done[other]
                    for other in dict.fromkeys((f"{sampler}:none", "tpe:none"))
                    if other in done and other != pair
                ]
                print(line(pair, runs, plain, target, budget), flush=True)
                if given.out is not None:
                    with given.out.open("a", newline="", encoding="utf-8") as handle:
                        csv.writer(handle, lineterminator="\n").writerows(lines(table, pair, runs, budget))


if __name__ == "__main__":
    main()
