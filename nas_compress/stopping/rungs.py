"""Rules at rungs: their steps, and the costs of all trials at a rung."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nas_compress.errors import RequestError
from nas_compress.stopping.curve import Curve


@dataclass(frozen=True, kw_only=True)
class AtRung:
    """The costs of the newcomer and of the other trials at one rung."""

    own: tuple[float, ...]
    others: list[tuple[float, ...]]


@dataclass(frozen=True, kw_only=True)
class AtRungs:
    """A rule at `rungs`, rising fractions of a full training between 0 and 1; RequestError otherwise."""

    rungs: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.rungs:
            raise RequestError("rungs must be one or more steps before the end of training, but got none")
        if list(self.rungs) != sorted(set(self.rungs)) or not 0 < self.rungs[0] <= self.rungs[-1] < 1:
            raise RequestError(f"rungs must rise between 0 and the end of training, but got {self.rungs}")

    def wants(self, step: int, planned: int) -> bool:
        """At rungs, and at the end to complete the curve."""
        return step == planned or self._rung(step, planned) is not None

    def at_rung(self, newcomer: Curve, others: Sequence[Curve]) -> AtRung | None:
        """The costs at the rung of the newcomer's last step; None if that step is no rung."""
        fraction = self._rung(newcomer.step, newcomer.planned)
        own = newcomer.vector(newcomer.step)
        if fraction is None or own is None:
            return None
        reached = [curve.vector(curve.step_at(fraction)) for curve in others]
        return AtRung(own=own, others=[vector for vector in reached if vector is not None])

    def _rung(self, step: int, planned: int) -> float | None:
        curve = Curve(known=(), planned=planned)
        return next((f for f in self.rungs if step < planned and curve.step_at(f) == step), None)
