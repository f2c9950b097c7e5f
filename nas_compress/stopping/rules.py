"""The Protocol of stopping rules: pure functions of learning curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from nas_compress.stopping.curve import Curve


class Rule(Protocol):
    """A stopping rule: the steps at which it compares, and its verdict there.

    Rules are stateless. A resumed run decides as before, and workers on one storage share the curves.
    """

    def wants(self, step: int, planned: int) -> bool:
        """Return True if the rule needs the learned cost at this step of `planned`."""

    def verdict(self, newcomer: Curve, others: Sequence[Curve]) -> str | None:
        """The reason to stop the newcomer at its last step, or None to continue."""


class NoRule:
    """The rule `none`: every trial is trained to its end."""

    def wants(self, step: int, planned: int) -> bool:
        """Return False."""
        return False

    def verdict(self, newcomer: Curve, others: Sequence[Curve]) -> str | None:
        """Return None."""
        return None


@dataclass(frozen=True, kw_only=True)
class Overruled:
    """Report at the steps of another rule, but never stop, because later trials need the curve.

    Used for a stopped candidate that is proposed again: the repeated proposal of a sampler counts more than a few
    epochs of training.
    """

    rule: Rule

    def wants(self, step: int, planned: int) -> bool:
        """The steps of the other rule."""
        return self.rule.wants(step, planned)

    def verdict(self, newcomer: Curve, others: Sequence[Curve]) -> str | None:
        """Return None."""
        return None
