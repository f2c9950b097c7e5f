"""What a study optimises and the limits that it sets. Each objective keeps its own direction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nas_compress.errors import RequestError, require_known

Direction = Literal["maximize", "minimize"]

DIRECTIONS: dict[str, Direction] = {
    "accuracy": "maximize",
    "latency_ms": "minimize",
    "size_bytes": "minimize",
    "parameters": "minimize",
    "macs": "minimize",
}
"""Every figure that may be an objective. accuracy is a fraction of the validation split."""


@dataclass(frozen=True, kw_only=True)
class Objective:
    """One figure to be made better, by name; its direction follows from the name.

    >>> Objective(name="latency_ms").direction
    'minimize'
    """

    name: str

    def __post_init__(self) -> None:
        require_known("an objective", self.name, DIRECTIONS)

    @property
    def direction(self) -> Direction:
        """`maximize` or `minimize`."""
        return DIRECTIONS[self.name]

    def cost(self, value: float) -> float:
        """The value as something to be made small. The one place where a sign flips."""
        return -value if self.direction == "maximize" else value


@dataclass(frozen=True, kw_only=True)
class Budget:
    """A limit on one figure: `at_least` for what is maximised, `at_most` for what is minimised.

    >>> Budget(name="size_bytes", limit=64_000).violation(65_000) > 0
    True
    """

    name: str
    limit: float

    def __post_init__(self) -> None:
        require_known("a budget", self.name, DIRECTIONS)
        if not self.limit > 0:
            raise RequestError(f"a budget must be greater than 0, but got {self.name}={self.limit}")

    @property
    def rule(self) -> str:
        """`at_least` or `at_most`."""
        return "at_least" if DIRECTIONS[self.name] == "maximize" else "at_most"

    def violation(self, value: float) -> float:
        """How far `value` is beyond the limit, as a fraction of it; 0 or less where the limit is kept."""
        excess = value - self.limit if self.rule == "at_most" else self.limit - value
        return excess / self.limit

    def __str__(self) -> str:
        sign = "<=" if self.rule == "at_most" else ">="
        return f"{self.name} {sign} {self.limit:g}"


REWARDS = ("soft", "hard")
"""Every halving of the cost is worth something, or only what lies above the target costs."""


@dataclass(frozen=True, kw_only=True)
class Reward:
    """Accuracy and one cost as one number to be made large: accuracy x (cost / target) ^ w.

    MnasNet, Tan et al. 2019 (arXiv 1807.11626), equation 2 and section 3.2: `soft` has w = -0.07 everywhere, so that
    twice the cost takes 5 % of the accuracy; `hard` has w = 0 up to the target and -1 beyond it. One target has one
    best candidate, no front; a soft reward reacts to a latency that is wrong by 5 % like to 0.35 % of accuracy.

    >>> soft, hard = (Reward(kind=kind, figure="latency_ms", target=2.0) for kind in REWARDS)
    >>> [round(soft.value(0.9, cost), 3) for cost in (1.0, 2.0, 4.0)]
    [0.945, 0.9, 0.857]
    >>> [round(hard.value(0.9, cost), 3) for cost in (1.0, 2.0, 4.0)]
    [0.9, 0.9, 0.45]
    """

    kind: str
    figure: str
    target: float

    def __post_init__(self) -> None:
        require_known("a reward", self.kind, REWARDS)
        require_known("the figure of a reward", self.figure, [name for name in DIRECTIONS if name != "accuracy"])
        if not 0 < self.target < float("inf"):
            raise RequestError(f"0 < target < inf must hold, but got target={self.target}")

    def value(self, accuracy: float, cost: float) -> float:
        """The reward of an accuracy (a fraction) at a cost in the target's unit."""
        if self.kind == "soft":
            return accuracy * float((cost / self.target) ** -0.07)
        return accuracy * min(1.0, self.target / cost)

    def __str__(self) -> str:
        return f"{self.kind} reward of accuracy and {self.figure} around {self.target:g}"
