"""Tables of trained networks that other people published, and this project's own two, as search problems.

    pip install --no-deps nas-bench-graph==1.4.0 analog-nasbench==0.1.3

- arxiv, cs, physics: 26,206 graph networks of a tree of links and four operators (NAS-Bench-Graph, Qin et al. 2022);
  validation accuracy, latency, parameters.
- analog: 15,625 cells of NAS-Bench-201 on CIFAR-10 (AnalogNAS-Bench); accuracy after quantization-aware training,
  parameters.
- digits, fashion-mnist: `benchmarks/curves/`; validation accuracy, latency, bytes.

A network that several parameters describe is one network. A description that the table lacks has its worst figures.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from nas_compress.config.suggest import Suggest
from nas_compress.values.pareto import hypervolume, non_dominated

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
from pickles import read_plain  # noqa: E402 - beside this file

from search import read_table  # noqa: E402 - in the folder above

GRAPHS = ("arxiv", "cs", "physics")
NAMES = (*GRAPHS, "analog", "digits", "fashion-mnist")
LOW = 5
"""Percentile of the accuracy at the corner of the volume, in tables of others."""

LINKS = ("0000", "0001", "0011", "0012", "0013", "0111", "0112", "0122", "0123")
OPERATORS = ("gat", "gcn", "gin", "cheb", "sage", "arma", "graph", "fc", "skip")

CELL_OPERATORS = ("skip", "none", "conv3x3", "conv1x1", "pool")
"""Operators of an edge of the cell, in the order of the numbers in the table."""
WEIGHTS = {"conv3x3": 9, "conv1x1": 1}
CHANNELS, CELLS, REST = (16, 32, 64), 5, 73_000
"""Channels of the three stages of NAS-Bench-201, its cells in each stage, and the parameters outside of the cells."""

Figures = tuple[float, ...]
"""Accuracy (0 to 1), then the figures to minimise."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """A search problem.

    figures: of each network. worst: those of a network that the table lacks. metrics: names of the objectives.
    corner: of the volume, in `costs`. whole: volume of the front of all networks. members: number on that front.
    """

    suggest: Callable[[Suggest], Hashable]
    figures: Mapping[Any, Figures]
    worst: Figures
    metrics: tuple[str, ...]
    corner: np.ndarray
    whole: float
    members: int

    def of(self, network: Hashable) -> Figures:
        """Return the figures of a network."""
        return self.figures.get(network, self.worst)

    @property
    def best(self) -> float:
        """Largest accuracy."""
        return max(figures[0] for figures in self.figures.values())


def costs(figures: Figures) -> np.ndarray:
    """Return costs to minimise: the accuracy with its sign changed, the other figures in decades."""
    return np.array([-figures[0], *np.log10(figures[1:])])


@cache
def table(name: str) -> Table:
    """Read a table."""
    if name in GRAPHS:
        return _graphs(name)
    return _analog() if name == "analog" else _own(name)


def _made(
    suggest: Callable[[Suggest], Hashable],
    figures: Mapping[Any, Figures],
    metrics: tuple[str, ...],
    corner: np.ndarray | None = None,
) -> Table:
    rows = np.array([costs(each) for each in figures.values()])
    if corner is None:
        corner = rows.max(axis=0) + 0.01
        corner[0] = np.percentile(rows[:, 0], 100 - LOW)
    counted = rows[(rows < corner).all(axis=1)]
    front = counted[non_dominated(counted)]
    every = np.array(list(figures.values()))
    return Table(
        suggest=suggest,
        figures=figures,
        worst=(float(every[:, 0].min()), *every[:, 1:].max(axis=0).tolist()),
        metrics=metrics,
        corner=corner,
        whole=hypervolume(front, corner),
        members=len(np.unique(front, axis=0)),
    )


def _file(package: str, *parts: str) -> Path:
    found = find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise SystemExit(f"the package of {package} is missing: pip install --no-deps nas-bench-graph analog-nasbench")
    return Path(found.submodule_search_locations[0]).joinpath(*parts)


def _graphs(name: str) -> Table:
    known = read_plain(_file("nas_bench_graph", "light", f"{name}.bench"))
    if not isinstance(known, dict):
        raise SystemExit(f"{name}.bench holds no table")
    figures = {
        network: (float(row["valid_perf"]), 1000 * float(row["latency"]), 1e6 * float(row["para"]))
        for network, row in known.items()
    }
    return _made(_graph, figures, ("accuracy", "latency_ms", "parameters"))


def _graph(trial: Suggest) -> Hashable:
    link = trial.suggest_categorical("link", LINKS)
    return _network(link, tuple(trial.suggest_categorical(f"operator_{place}", OPERATORS) for place in range(4)))


@cache
def _network(link: str, operators: tuple[str, ...]) -> Hashable:
    """Return the table's number of a network; -1 if it has none."""
    from nas_bench_graph import Arch  # the package knows which descriptions are one network

    try:
        return int(Arch([int(place) for place in link], list(operators)).valid_hash())
    except (UnboundLocalError, ValueError):
        return -1


def _analog() -> Table:
    module = "analognasbench.data"
    path = _file("analognasbench", "data.anb")
    known = read_plain(path, records={(module, "Architecture"), (module, "DriftMeasurement")})
    if not isinstance(known, dict):
        raise SystemExit("data.anb holds no table")
    figures = {cell: (float(row.qat_accuracy) / 100, _parameters(cell)) for cell, row in known.items()}
    return _made(_cell, figures, ("accuracy", "parameters"))


def _cell(trial: Suggest) -> Hashable:
    edges = [trial.suggest_categorical(f"edge_{place}", CELL_OPERATORS) for place in range(6)]
    return tuple(CELL_OPERATORS.index(edge) for edge in edges)


def _parameters(cell: tuple[int, ...]) -> float:
    """Return the parameters of the network of a cell; the table has none."""
    weights = sum(WEIGHTS.get(CELL_OPERATORS[edge], 0) for edge in cell)
    convolutions = sum(CELL_OPERATORS[edge] in WEIGHTS for edge in cell)
    return float(REST + CELLS * sum(weights * width**2 + 2 * convolutions * width for width in CHANNELS))


def _own(name: str) -> Table:
    own = read_table(name)
    figures = {candidate: recorded.figures for candidate, recorded in own.by_candidate.items()}
    return _made(own.suggest, figures, ("accuracy", "latency_ms", "size_bytes"), own.corner)
