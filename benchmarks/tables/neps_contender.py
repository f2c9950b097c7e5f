"""NePS on a table: its Bayesian optimisation for several objectives, with its defaults, asked and told.

The tables have one fidelity, so PriMO, which begins with partial trainings, has nothing to begin with.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable

import neps
import numpy as np
import torch
from spaces import Table, costs

from nas_compress.config.suggest import GivenWalk
from nas_compress.search.samplers.proposals import draw


def search_with_neps(
    known: Table, evaluate: Callable[[Hashable], tuple[float, ...]], *, seed: int, budget: int
) -> None:
    """Evaluate as many different networks; the costs are those of the volume."""
    for make in (random.seed, np.random.seed, torch.manual_seed):
        make(seed)
    kinds = draw(known.suggest, random.Random(0), {}).distributions
    names = {name: f"p{number}" for number, name in enumerate(kinds)}  # NePS wants identifiers
    attributes = {names[name]: neps.Categorical(_choices(kind)) for name, kind in kinds.items()}
    space = type("Space", (neps.PipelineSpace,), attributes)()
    optimizer = neps.AskAndTell(neps.algorithms.bayesian_optimization(space))
    seen: set[Hashable] = set()
    while len(seen) < budget:
        trial = optimizer.ask()
        walk = GivenWalk(random.Random(0), {name: trial.config[short] for name, short in names.items()})
        network = known.suggest(walk)
        seen.add(network)
        optimizer.tell(trial.metadata.id, costs(evaluate(network)).tolist())


def _choices(kind: object) -> tuple[object, ...]:
    """Return the values of a distribution; all tables have a few."""
    if hasattr(kind, "choices"):
        return tuple(kind.choices)
    return tuple(range(kind.low, kind.high + 1, kind.step))  # type: ignore[attr-defined]
