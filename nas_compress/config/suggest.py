"""The trial interface of search spaces, and random trials that count the choices."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from random import Random
from typing import Protocol, TypeVar

Choice = TypeVar("Choice", None, bool, int, float, str)


class Suggest(Protocol):
    """The part of `optuna.Trial` for search spaces; `optuna.trial.FixedTrial` has it too."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Return an integer from low to high, both included."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Return a number from low to high, both included."""

    def suggest_categorical(self, name: str, choices: Sequence[Choice]) -> Choice:
        """Return one of the choices."""


class RandomWalk:
    """Uniform random draws. `params`: the draws. `ways`: the product of the numbers of choices.

    The mean of `ways` over many walks estimates the number of leaves of a conditional space (Knuth 1975).
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self.ways: float = 1
        self.params: dict[str, object] = {}

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Draw from low, low + step, ..., high."""
        return self._draw(name, range(low, high + 1, step))

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Draw from the grid of `step`, or from the whole interval, which makes the space infinite."""
        if step is not None:
            steps = math.floor((high - low) / step + 1e-9) + 1
            return self._draw(name, [round(low + step * number, 12) for number in range(steps)])
        self.ways = math.inf
        value = low * (high / low) ** self._random.random() if log else self._random.uniform(low, high)
        self.params[name] = value
        return value

    def suggest_categorical(self, name: str, choices: Sequence[Choice]) -> Choice:
        """Draw one of the choices."""
        return self._draw(name, choices)

    def _draw(self, name: str, choices: Sequence[Choice]) -> Choice:
        if name in self.params:
            return self.params[name]  # type: ignore[return-value]
        value = self._random.choice(choices)
        self.ways *= len(choices)
        self.params[name] = value
        return value


class GivenWalk(RandomWalk):
    """A random walk with given values. `refused`: the error about the first value outside its choices."""

    def __init__(self, random: Random, given: Mapping[str, object]) -> None:
        super().__init__(random)
        self._given = given
        self.refused: str | None = None

    @property
    def unused(self) -> list[str]:
        """Given names without a request so far."""
        return [name for name in self._given if name not in self.params]

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Take the given value if it lies in the interval or on the grid."""
        if name not in self._given or step is not None:
            return super().suggest_float(name, low, high, step=step, log=log)
        value = self._given[name]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            self._refuse(name, f"{low} <= {name} <= {high}")
            return super().suggest_float(name, low, high, step=step, log=log)
        self.params[name] = float(value)
        return float(value)

    def _draw(self, name: str, choices: Sequence[Choice]) -> Choice:
        if name in self.params or name not in self._given:
            return super()._draw(name, choices)
        value = self._given[name]
        for choice in choices:
            if _same(choice, value):
                self.params[name] = choice
                return choice
        self._refuse(name, f"{name} in {list(choices)}")
        return super()._draw(name, choices)

    def _refuse(self, name: str, rule: str) -> None:
        self.refused = self.refused or f"{rule} must hold, but got {name}={self._given[name]!r}"


def _same(choice: object, value: object) -> bool:
    """Equality of value and kind; numbers on a grid are equal up to rounding."""
    if isinstance(choice, bool) or isinstance(value, bool):
        return choice is value
    if isinstance(choice, float) and isinstance(value, (int, float)):
        return math.isclose(choice, value, rel_tol=1e-9, abs_tol=1e-12)
    return choice == value
