"""What a study file may say, with its defaults. Values only: structure belongs into the search space."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from nas_compress.errors import RequestError
from nas_compress.objective import DIRECTIONS, Budget, Objective


class Section(BaseModel):
    """A frozen part of the study file that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class DataSection(Section):
    """`[data]`: a built-in data set by `name`, or the user's own by `factory = "module:callable"`."""

    name: str | None = None
    factory: str | None = None
    seed: int = 0
    shift: int | None = Field(default=None, ge=0)
    flip: bool | None = None
    train_samples: PositiveInt | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.name is None) == (self.factory is None):
            raise ValueError("exactly one of name and factory must be given")
        return self


class TeacherSection(Section):
    """`[teacher]`: a family trained once, or the user's module by `factory` with its `weights`."""

    family: str = "resnet"
    widths: tuple[PositiveInt, ...] | None = None
    depths: tuple[PositiveInt, ...] = (1, 1, 1)
    epochs: PositiveInt = 30
    learning_rate: PositiveFloat = 3e-3
    seed: int = 0
    factory: str | None = None
    weights: str | None = None

    @model_validator(mode="after")
    def _factory_with_weights(self) -> Self:
        if (self.factory is None) != (self.weights is None):
            raise ValueError("factory and weights must be given together")
        if self.widths is not None and len(self.widths) != len(self.depths):
            raise ValueError("widths and depths must have one entry per stage each")
        return self


class TrainingSection(Section):
    """`[training]`: the budget of each trial from scratch. It is a constant of the study, never searched.

    `scratch_e` trains every candidate for `epochs`; `scratch_b` gives it the teacher's compute, that is `epochs`
    times the teacher's macs over its own, at most `cap` times `epochs` (Liu et al. 2019, arXiv 1810.05270).
    """

    epochs: PositiveInt = 20
    budget: Literal["scratch_e", "scratch_b"] = "scratch_e"
    cap: float = Field(default=3.0, ge=1.0)
    batch_size: PositiveInt = 128
    learning_rate: PositiveFloat = 3e-3
    weight_decay: float = Field(default=0.01, ge=0.0)


class SearchSection(Section):
    """`[search]`: who proposes candidates."""

    sampler: str = "tpe"
    startup_trials: PositiveInt = 10


class BudgetSection(Section):
    """`[budgets.<figure>]`: `at_least` for what is maximised, `at_most` for what is minimised."""

    at_least: PositiveFloat | None = None
    at_most: PositiveFloat | None = None


class StudySpec(Section):
    """A whole study file, frozen.

    >>> StudySpec(name="mine", space="cnn", data=DataSection(name="digits")).trials
    24
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    space: str
    trials: PositiveInt = 24
    seed: int = 0
    objectives: tuple[str, ...] = ("accuracy", "latency_ms", "size_bytes")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    data: DataSection
    teacher: TeacherSection = TeacherSection()
    training: TrainingSection = TrainingSection()
    search: SearchSection = SearchSection()
    budgets: dict[str, BudgetSection] = {}

    @model_validator(mode="after")
    def _known_figures(self) -> Self:
        try:
            _ = self.objective_list, self.budget_list
        except RequestError as error:
            raise ValueError(str(error)) from error
        if not self.objectives or len(set(self.objectives)) < len(self.objectives):
            raise ValueError("objectives must be at least one figure, each named once")
        accuracy = self.budgets.get("accuracy")
        if accuracy and accuracy.at_least and accuracy.at_least > 1:
            raise ValueError("budgets.accuracy.at_least <= 1 must hold: accuracy is a fraction")
        return self

    @property
    def objective_list(self) -> tuple[Objective, ...]:
        """The objectives as values."""
        return tuple(Objective(name=name) for name in self.objectives)

    @property
    def budget_list(self) -> tuple[Budget, ...]:
        """The budgets as values, in the file's order."""
        return tuple(_budget(name, section) for name, section in self.budgets.items())


def _budget(name: str, section: BudgetSection) -> Budget:
    right = Budget(name=name, limit=1.0).rule
    given = {key: value for key, value in section.model_dump().items() if value is not None}
    if list(given) != [right]:
        better = "higher" if DIRECTIONS[name] == "maximize" else "lower"
        raise RequestError(f"budgets.{name} must have {right} ({better} is better), but got {given or 'nothing'}")
    return Budget(name=name, limit=given[right])
