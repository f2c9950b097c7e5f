"""Rows of the table of losses: the task's loss, terms of logits and terms of features."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor, nn

from nas_compress.errors import RequestError, nearest
from nas_compress.losses.weight_schedule import WeightSchedule
from nas_compress.models.features import Observation

Settings = Mapping[str, float]

LogitLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(student logits (B, C), labels (B,) or soft labels (B, C), teacher logits (B, C)) to a scalar.

A constant added to a row of the teacher's logits changes nothing, because they are stored as differences to the row's
maximum.
"""

Target = Literal["labels", "teacher"]
"""An argument of a loss of logits after the student's logits: labels (B,), or the teacher's logits (B, C)."""

Needs = Literal["features", "maps", "tokens", "relations"]
"""Features of both networks: of any kind, maps (B, c, h, w), tokens (B, L, d), or relations between tokens."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One number with its default and its open range; `zero` is the meaning of 0 if 0 is allowed too."""

    default: float
    above: float
    below: float
    zero: str = ""

    def require(self, name: str, value: float, term: str) -> None:
        """Raise RequestError for a value out of range."""
        if not (self.above < value < self.below or (self.zero and value == 0)):
            rule = f"{self.above:g} < {name} < {self.below:g}" + (f" or {name} = 0 ({self.zero})" if self.zero else "")
            raise RequestError(f"{rule} must hold for loss {term!r}, but got {name}={value:g}")


STAGE = ("begin", "end")
"""Settings of every term: its weight is 0 before and after these fractions of the planned steps."""


@dataclass(frozen=True, kw_only=True)
class _Row:
    """Fields of every term.

    settings: all numbers of the term by name.
    weight_schedule: change of weights over a training, controlled by one of the settings.
    min_batch: samples of a batch; more than 1 if the term compares samples.
    warning: from the number of classes to a warning before a study runs, or None.
    """

    summary: str
    source: str
    settings: Mapping[str, Setting] = field(default_factory=dict)
    weight_schedule: WeightSchedule | None = None
    min_batch: int = 1
    warning: Callable[[int], str | None] = lambda classes: None

    def own_settings(self, settings: Settings) -> dict[str, float]:
        """Return the settings without those of the weight's schedule."""
        left_out = STAGE if self.weight_schedule is None else (*STAGE, self.weight_schedule.setting)
        return {name: value for name, value in settings.items() if name not in left_out}


@dataclass(frozen=True, kw_only=True)
class LogitTerm(_Row):
    """A loss of the student's logits.

    function: called with the student's logits, one argument for each target, and the settings as keywords.
    targets: further arguments in this order.
    soft_labels: labels may be probabilities (B, C).
    weighted: the function takes weights of classes.
    """

    function: Callable[..., Tensor]
    targets: tuple[Target, ...]
    soft_labels: bool = True
    weighted: bool = False

    @property
    def needs_teacher(self) -> bool:
        """True if the teacher's logits are an argument."""
        return "teacher" in self.targets

    @property
    def needs(self) -> str:
        """Input in words, for listings."""
        return "teacher logits" if self.needs_teacher else "labels"

    def bind(self, settings: Settings) -> LogitLoss:
        """Return the function with these settings."""
        own = self.own_settings(settings)

        def loss(student: Tensor, labels: Tensor, teacher: Tensor) -> Tensor:
            values = {"labels": labels, "teacher": teacher}
            return self.function(student, *(values[target] for target in self.targets), **own)

        return loss


class FeatureLoss(nn.Module):
    """A loss of two observations, made for their shapes.

    Its parameters (adaptation layers) are trained with the student and dropped afterwards.

    of_teacher: names of the teacher's features that it reads; the last one by default.
    relations_of_teacher: names of the teacher's layers whose relations it reads.
    """

    def __init__(self, student: Observation, teacher: Observation) -> None:
        super().__init__()
        self.of_teacher: tuple[str, ...] = tuple(teacher.features)[-1:]
        self.relations_of_teacher: tuple[str, ...] = ()

    def forward(self, student: Observation, teacher: Observation) -> Tensor:
        """Return a scalar in float32; no gradient reaches the teacher."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class FeatureTerm(_Row):
    """A loss of intermediate features of student and teacher.

    loss: called with two observations and the settings as keywords; RequestError if the two do not fit.
    needs: kind of features.
    """

    loss: Callable[..., FeatureLoss]
    needs: Needs

    @property
    def needs_teacher(self) -> bool:
        """Always true."""
        return True

    def build(self, settings: Settings, student: Observation, teacher: Observation) -> FeatureLoss:
        """Make the loss for the shapes of two observations."""
        return self.loss(student, teacher, **self.own_settings(settings))


@dataclass(frozen=True, kw_only=True)
class TaskTerm(_Row):
    """The base loss of the task, which needs no classes.

    on_teacher: the teacher's outputs take the place of the targets.
    """

    on_teacher: bool = False

    @property
    def needs_teacher(self) -> bool:
        """True if the teacher's outputs are the targets."""
        return self.on_teacher

    @property
    def needs(self) -> str:
        """Input in words, for listings."""
        return "teacher outputs" if self.on_teacher else "targets"


Term = LogitTerm | FeatureTerm | TaskTerm


def complete_settings(name: str, term: Term, given: Settings) -> dict[str, float]:
    """Return all settings, with defaults for those not given; those of STAGE only if they are given.

    RequestError for an unknown setting or a value out of range.
    """
    chosen = {key: setting.default for key, setting in term.settings.items()}
    begin, end = given.get("begin", 0.0), given.get("end", 1.0)
    if not 0 <= begin < end <= 1:
        raise RequestError(f"0 <= begin < end <= 1 must hold for loss {name!r}, but got begin={begin:g}, end={end:g}")
    for key, value in given.items():
        if key in STAGE:
            chosen[key] = value
            continue
        if key not in term.settings:
            raise RequestError(f"loss {name!r} has no setting {key!r}{nearest(key, [*term.settings, *STAGE])}")
        term.settings[key].require(key, value, name)
        chosen[key] = value
    return chosen
