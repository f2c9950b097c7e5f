"""Stop a trial that another one left behind: better under all objectives after equally much training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas_compress.stopping.curve import Curve
from nas_compress.stopping.rungs import AtRungs


@dataclass(frozen=True, kw_only=True)
class Behind(AtRungs):
    """Stop where some trial that reached the rung dominates the newcomer there.

    Costs that were known before training count as they are, the learned one as it is at the rung, so that a small or
    fast student is held against equally small and fast ones only. Trials that no other dominates at the rung always go
    on, unlike under MO-ASHA, of whose front the epsilon-net drops a part. `rungs` are fractions of each trial's full
    training.
    """

    def verdict(self, newcomer: Curve, others: Sequence[Curve]) -> str | None:
        """Compare at the newcomer's rung; None where its last step is no rung."""
        standing = self.standing(newcomer, others)
        if standing is None:
            return None
        own, rung = standing.own, np.array(standing.others, dtype=np.float64).reshape(-1, len(standing.own))
        ahead = int(((rung <= own).all(axis=1) & (rung < own).any(axis=1)).sum())
        if not ahead:
            return None
        return f"behind: {ahead} of {len(rung)} other trials dominate it at step {newcomer.step} of {newcomer.planned}"
