"""The parts `[search]` and `[search.reward]` of a study file."""

from __future__ import annotations

from collections.abc import Iterable
from math import isfinite
from typing import Any, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from nas_compress.config.section import Section


class RewardSection(Section):
    """`[search.reward]`: one number instead of a front, quality x (figure / target) ^ w; see `Reward`.

    The quality is the study's first maximised objective that training determines, else the accuracy.
    """

    kind: Literal["soft", "hard"] = "soft"
    figure: str = "latency_ms"
    target: PositiveFloat


PRUNERS = ("median", "halving", "hyperband")
"""Optuna's own pruners, for one objective."""


class SearchSection(Section):
    """`[search]`: the sampler, its start points, and the stopping of trainings.

    start: candidates to try first. The smallest and the largest of 400 random ones in bytes, and the nearest to the
    teacher's shape.
    enqueue: start points of the user, as searched parameters by name. The sampler fills open ones.
    accuracy_floor: smallest value of interest of the first maximised objective that training determines, such as
    accuracy = 0.95. The sampler `ehvi` then looks for smaller and faster students above it only. A budget on the same
    figure does the same. Without both, every second proposal looks near the teacher's figure.
    warm_start: run folders of earlier studies of the same space and data, relative to the study file. Their trials and
    look-ups teach the models of the sampler `ehvi`; none of their students is on the front.
    prior: the values of searched parameters that you expect to be good, such as width_multiplier = 0.5, for the sampler
    `ehvi`. Half of the points have a part of them, and the preference fades with the number of trials.
    stop: a stopping rule, or `auto`: `behind` if accuracy is one of several objectives, the training is long enough for
    a rung, and the sampler is not ehvi, because no rule was found to pay with it. `shadow` trains every trial to its
    end and reports the savings and costs of the rule named by `shadow`.
    rungs: epochs of comparison for moasha and behind; geometric by default.
    eta: moasha continues one of `eta` trials.
    risk: error rate of `dominated`.
    reward: one number for the sampler instead of the objectives. `stop` may then be one of Optuna's pruners `median`,
    `halving` and `hyperband`. The front is drawn all the same.
    """

    sampler: str = "ehvi"
    startup_trials: PositiveInt = 10
    start: tuple[Literal["smallest", "largest", "teacher"], ...] = ()
    enqueue: tuple[dict[str, bool | int | float | str], ...] = ()
    accuracy_floor: float | None = None
    warm_start: tuple[str, ...] = ()
    prior: dict[str, bool | int | float | str] = Field(default_factory=dict)
    stop: Literal["auto", "none", "moasha", "behind", "dominated", "shadow", "median", "halving", "hyperband"] = "auto"
    shadow: Literal["moasha", "behind", "dominated"] = "moasha"
    rungs: tuple[PositiveInt, ...] | None = None
    eta: int = Field(default=3, ge=2)
    risk: float = Field(default=0.05, gt=0.0, le=0.5)
    reward: RewardSection | None = None

    @property
    def rule(self) -> str:
        """The stopping rule, acting or in the shadow."""
        return self.shadow if self.stop == "shadow" else self.stop

    @field_validator("enqueue", mode="before")
    @classmethod
    def _plain_values(cls, points: Any) -> Any:
        given = points if isinstance(points, list | tuple) else ()  # the type of the key refuses others
        _require_plain([item for point in given if isinstance(point, dict) for item in point.items()])
        return tuple(points) if isinstance(points, list) else points

    @field_validator("prior", mode="before")
    @classmethod
    def _plain_prior(cls, given: Any) -> Any:
        _require_plain(given.items() if isinstance(given, dict) else ())  # the type of the key refuses others
        return given

    @model_validator(mode="after")
    def _model_based(self) -> Self:
        key = "warm_start" if self.warm_start else "prior" if self.prior else None
        if key is not None and self.sampler != "ehvi":
            raise ValueError(f"search.{key} needs the sampler ehvi, but got sampler={self.sampler!r}")
        if len(set(self.warm_start)) < len(self.warm_start):
            raise ValueError(f"search.warm_start must name each run once, but got {list(self.warm_start)}")
        return self

    @model_validator(mode="after")
    def _pruner_of_a_reward(self) -> Self:
        if self.stop in PRUNERS and self.reward is None:
            raise ValueError(f"stop={self.stop!r} needs search.reward: Optuna's pruners accept only one objective")
        return self

    @model_validator(mode="after")
    def _rungs_of_a_rule(self) -> Self:
        if self.rungs is None:
            return self
        if self.rule not in ("moasha", "behind"):
            raise ValueError(f"rungs belong to the rules moasha and behind, but got rungs with the rule {self.rule}")
        if not self.rungs or list(self.rungs) != sorted(set(self.rungs)):
            raise ValueError(f"rungs must be one or more rising epochs, but got rungs={list(self.rungs)}")
        return self


def _require_plain(items: Iterable[tuple[str, object]]) -> None:
    for name, value in items:
        if not isinstance(value, (bool, int, float, str)) or (isinstance(value, float) and not isfinite(value)):
            raise ValueError(f"values must be finite numbers, strings, true or false, but got {name}={value!r}")
