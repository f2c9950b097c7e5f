"""Stopping rule `behind`: stop a trial dominated by another one at the same stage of training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas_compress.stopping.curve import Curve
from nas_compress.stopping.rungs import AtRungs


@dataclass(frozen=True, kw_only=True)
class Behind(AtRungs):
    """Stop a trial if another trial dominates it at its rung.

    Compared are the known costs and the learned cost at the rung, so a small or fast student competes with equally
    small and fast students only. Non-dominated trials always continue; MO-ASHA drops some of them by its epsilon-net.
    rungs: fractions of a full training.
    """

    def verdict(self, newcomer: Curve, others: Sequence[Curve]) -> str | None:
        """Compare at the rung of the newcomer's last step; None if that step is no rung."""
        found = self.at_rung(newcomer, others)
        if found is None:
            return None
        own, rung = found.own, np.array(found.others, dtype=np.float64).reshape(-1, len(found.own))
        ahead = int(((rung <= own).all(axis=1) & (rung < own).any(axis=1)).sum())
        if not ahead:
            return None
        return f"behind: {ahead} of {len(rung)} other trials dominate it at step {newcomer.step} of {newcomer.planned}"
