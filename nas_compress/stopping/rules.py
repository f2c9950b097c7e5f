"""What every stopping rule is: a pure function of the newcomer's curve and of the other trials' curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from nas_compress.stopping.curve import Curve


class Rule(Protocol):
    """Says at which steps it wants to look, and whether a trial ends there.

    A rule keeps nothing between two looks: what it knows are the curves, so that a run that was killed goes on with
    the same decisions, and workers on one storage share them.
    """

    def wants(self, step: int, planned: int) -> bool:
        """Whether the learned cost at this step of `planned` must be reported."""

    def verdict(self, newcomer: Curve, others: Sequence[Curve]) -> str | None:
        """Why the newcomer should stop at its last step, or None where it goes on."""


class NoRule:
    """Every trial is trained to its end."""

    def wants(self, step: int, planned: int) -> bool:
        """Never."""
        return False

    def verdict(self, newcomer: Curve, others: Sequence[Curve]) -> str | None:
        """Go on."""
        return None


@dataclass(frozen=True, kw_only=True)
class Overruled:
    """Looks where another rule does, so that the curve serves later trials, and stops nothing.

    For a candidate that was stopped and is proposed again: that the sampler comes back to it, after all that it has
    learned, says more than a few epochs of training did.
    """

    rule: Rule

    def wants(self, step: int, planned: int) -> bool:
        """Where the other one looks."""
        return self.rule.wants(step, planned)

    def verdict(self, newcomer: Curve, others: Sequence[Curve]) -> str | None:
        """Go on."""
        return None
