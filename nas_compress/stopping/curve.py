"""What a stopping rule sees of a trial. Every number is a cost: small is good."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A trial so far: costs known before training, and the learned cost after some of its steps.

    `known` are in the same order for every trial, `planned` is the step at which a full training ends (a step is an
    epoch or whatever is counted), `points` are (step, learned cost) in rising order of steps.
    """

    known: tuple[float, ...]
    planned: int
    points: tuple[tuple[int, float], ...] = ()

    @property
    def step(self) -> int:
        """The last step that was reported; 0 before the first."""
        return self.points[-1][0] if self.points else 0

    @property
    def finished(self) -> bool:
        """Whether the training went to its end."""
        return self.step >= self.planned

    def vector(self, step: int) -> tuple[float, ...] | None:
        """The learned cost at `step` and the known ones; None where that step was not reported."""
        for reported, cost in self.points:
            if reported == step:
                return (cost, *self.known)
        return None

    def step_at(self, fraction: float) -> int:
        """The step nearest to a fraction of the full training; at least 1."""
        return max(1, round(fraction * self.planned))

    def until(self, step: int) -> Curve:
        """The curve as it was at `step`."""
        return Curve(known=self.known, planned=self.planned, points=tuple(p for p in self.points if p[0] <= step))
