"""Convert a search space for Optuna into parameter domains for other tools."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from nas_compress.config.suggest import Choice, GivenWalk, RandomWalk, Suggest
from nas_compress.values.candidate import Candidate

WALKS = 2000
"""Number of draws; enough to visit every branch of a conditional space."""

Choices = tuple[bool | int | float | str | None, ...]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Numbers from `low` to `high`, both included."""

    low: float
    high: float
    log: bool


Domain = range | Choices | Interval


class Recorder(RandomWalk):
    """A random walk that records the parameters; several branches of one parameter are merged."""

    def __init__(self, random: Random, domains: dict[str, Domain]) -> None:
        super().__init__(random)
        self._domains = domains

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Draw and record the range."""
        asked = range(low, high + 1, step)
        if self._domains.setdefault(name, asked) != asked:
            self._widen(name, asked)
        return super().suggest_int(name, low, high, step=step, log=log)

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Draw and record the interval; a grid is recorded as choices."""
        value = super().suggest_float(name, low, high, step=step, log=log)
        if step is None:
            self._domains.setdefault(name, Interval(low=low, high=high, log=log))
        else:
            count = round((high - low) / step) + 1
            self._widen(name, [low + step * number for number in range(count)])
        return value

    def suggest_categorical(self, name: str, choices: Sequence[Choice]) -> Choice:
        """Draw and record the choices."""
        self._widen(name, choices)
        return super().suggest_categorical(name, choices)

    def _widen(self, name: str, choices: Sequence[bool | int | float | str | None]) -> None:
        known = self._domains.get(name, ())
        if not isinstance(known, Interval):
            self._domains[name] = tuple(dict.fromkeys([*known, *choices]))


def domains_of(suggest: Callable[[Suggest], Candidate]) -> dict[str, Domain]:
    """Return all parameters of the space; conditional ones are listed too, and may stay unused."""
    domains: dict[str, Domain] = {}
    for seed in range(WALKS):
        suggest(Recorder(Random(seed), domains))
    return domains


def candidate_of(suggest: Callable[[Suggest], Candidate], params: Mapping[str, object]) -> Candidate:
    """Return the candidate of a peer's values. Raise ValueError if the space refuses it."""
    walk = GivenWalk(Random(0), params)
    candidate = suggest(walk)
    if walk.refused is not None:
        raise ValueError(walk.refused)
    return candidate
