"""What rules at rungs share: when they look, and who stands at the newcomer's rung."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nas_compress.errors import RequestError
from nas_compress.stopping.curve import Curve


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The newcomer's costs at its rung, and those of the others that reached it."""

    own: tuple[float, ...]
    others: list[tuple[float, ...]]


@dataclass(frozen=True, kw_only=True)
class AtRungs:
    """Looks at `rungs`, fractions of each trial's full training. RequestError unless they rise between 0 and 1."""

    rungs: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.rungs:
            raise RequestError("rungs must name at least one step below the end of training, but got none")
        if list(self.rungs) != sorted(set(self.rungs)) or not 0 < self.rungs[0] <= self.rungs[-1] < 1:
            raise RequestError(f"rungs must rise and lie between 0 and the end of training, but got {self.rungs}")

    def wants(self, step: int, planned: int) -> bool:
        """At rungs, and at the end, which makes the curve whole."""
        return step == planned or self._rung(step, planned) is not None

    def standing(self, newcomer: Curve, others: Sequence[Curve]) -> Standing | None:
        """Who stands at the rung of the newcomer's last step; None where that is no rung."""
        fraction = self._rung(newcomer.step, newcomer.planned)
        own = newcomer.vector(newcomer.step)
        if fraction is None or own is None:
            return None
        reached = [curve.vector(curve.step_at(fraction)) for curve in others]
        return Standing(own=own, others=[vector for vector in reached if vector is not None])

    def _rung(self, step: int, planned: int) -> float | None:
        curve = Curve(known=(), planned=planned)
        return next((f for f in self.rungs if step < planned and curve.step_at(f) == step), None)
