"""MO-ASHA: at each rung only the best part of what came there goes on."""

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
    """Stop a trial that does not stand among the best 1 / eta of all trials that reached its rung.

    Salinas et al. 2021, Schmucker et al. 2021 (arXiv 2106.12639), in the stopping form: the trial is put among all
    trials that ever reached the rung, stopped ones too; they are ordered by non-dominated fronts and inside a front by
    an epsilon-net; with r others before it of n in all, it stops where r / n > 1 / eta. So one that dominates its rung,
    or comes first, is never stopped. `rungs` are fractions of each trial's full training.
    """

    eta: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        require_eta(self.eta)

    def verdict(self, newcomer: Curve, others: Sequence[Curve]) -> str | None:
        """Compare at the newcomer's rung; None where its last step is no rung."""
        standing = self.standing(newcomer, others)
        if standing is None:
            return None
        rung = np.array([standing.own, *standing.others], dtype=np.float64)
        before = place(rung, 0)
        if before * self.eta <= len(rung):
            return None
        return f"moasha: {before} of {len(rung)} trials stand before it at step {newcomer.step} of {newcomer.planned}"


def geometric_rungs(steps: int, *, eta: int = 3) -> tuple[int, ...]:
    """Steps 1 .. below `steps`, each about eta times the one before; none where training is too short for one.

    >>> geometric_rungs(27), geometric_rungs(14), geometric_rungs(2)
    ((1, 3, 9), (1, 4), ())
    """
    require_eta(eta)
    count = math.floor(math.log(steps, eta) + 1e-9)
    return tuple(sorted({steps // eta**power for power in range(1, count + 1)}))


def require_eta(eta: int) -> None:
    """Raise RequestError where every trial would go on, or none."""
    if eta < 2:
        raise RequestError(f"eta >= 2 must hold, but got eta={eta}")
