"""The learning curve of a trial as input of a stopping rule. All numbers are costs: small is good."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A trial so far: costs known before training, and the learned cost after some of its steps.

    known: in the same order for every trial. planned: last step of a full training; a step is usually an epoch.
    points: (step, learned cost) with rising steps.
    """

    known: tuple[float, ...]
    planned: int
    points: tuple[tuple[int, float], ...] = ()

    @property
    def step(self) -> int:
        """The last reported step; 0 before the first."""
        return self.points[-1][0] if self.points else 0

    @property
    def finished(self) -> bool:
        """True if the training reached its last step."""
        return self.step >= self.planned

    def vector(self, step: int) -> tuple[float, ...] | None:
        """The learned cost at `step`, followed by the known costs; None if the step was not reported."""
        for reported, cost in self.points:
            if reported == step:
                return (cost, *self.known)
        return None

    def step_at(self, fraction: float) -> int:
        """The step nearest to a fraction of the full training; at least 1."""
        return max(1, round(fraction * self.planned))

    def until(self, step: int) -> Curve:
        """The part of the curve up to `step`."""
        return Curve(known=self.known, planned=self.planned, points=tuple(p for p in self.points if p[0] <= step))
