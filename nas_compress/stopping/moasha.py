"""Stopping rule `moasha`: at each rung only the best 1 / eta of the trials continue."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas_compress.errors import RequestError
from nas_compress.stopping.curve import Curve
from nas_compress.stopping.rungs import AtRungs
from nas_compress.values.pareto import place


@dataclass(frozen=True, kw_only=True)
class MoAsha(AtRungs):
    """Stop a trial outside the best 1 / eta of all trials at its rung.

    Salinas et al. 2021, Schmucker et al. 2021 (arXiv 2106.12639), in the stopping variant. All trials that ever reached
    the rung count, stopped ones too. They are ordered by non-dominated fronts, and within a front by an epsilon-net.
    A trial with r of n trials before it stops if r / n > 1 / eta. The first trial at a rung is never stopped.
    rungs: fractions of a full training.
    """

    eta: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        require_eta(self.eta)

    def verdict(self, newcomer: Curve, others: Sequence[Curve]) -> str | None:
        """Compare at the rung of the newcomer's last step; None if that step is no rung."""
        found = self.at_rung(newcomer, others)
        if found is None:
            return None
        rung = np.array([found.own, *found.others], dtype=np.float64)
        before = place(rung, 0)
        if before * self.eta <= len(rung):
            return None
        return f"moasha: {before} of {len(rung)} trials are better at step {newcomer.step} of {newcomer.planned}"


def geometric_rungs(steps: int, *, eta: int = 3) -> tuple[int, ...]:
    """Steps from 1 to below `steps`, each about eta times the previous; empty if training is too short.

    >>> geometric_rungs(27), geometric_rungs(14), geometric_rungs(2)
    ((1, 3, 9), (1, 4), ())
    """
    require_eta(eta)
    count = math.floor(math.log(steps, eta) + 1e-9)
    return tuple(sorted({steps // eta**power for power in range(1, count + 1)}))


def require_eta(eta: int) -> None:
    """Raise RequestError if eta would stop every trial or none."""
    if eta < 2:
        raise RequestError(f"eta >= 2 must hold, but got eta={eta}")
