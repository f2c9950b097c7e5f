"""`[metrics]`: metrics by functions of the user. Reading a study never imports them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Any, Self, TypeAlias

from pydantic import AfterValidator, Field, model_validator

from nas_compress.config.section import Section
from nas_compress.values.metrics.row import Direction, Metric
from nas_compress.values.metrics.table import METRICS
from nas_compress.values.outcome import Measured

TAKEN = ("trial", "model", "epochs_spent", "number_format", "conditions", "files", "reward")
"""Names of other columns."""

FORM = '{ function = "module:callable", direction = "maximize" or "minimize" } or { recall_of = "class" }'


class MetricSection(Section):
    """`[metrics] NAME = {...}`: one metric, by a function or of one class.

    recall_of, f1_of: a class by word or number; the recall and the F1 score of this class, of a classification.
    function: takes the answers and the targets of a whole split and returns a number. Each is the array of the only
    output and target, or a mapping of arrays by name if there are several.
    chance: value of answers without knowledge. label: words for it in texts and plots, by default the name.
    """

    function: str | None = Field(default=None, pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    direction: Direction | None = None
    recall_of: str | None = None
    f1_of: str | None = None
    chance: float | None = None
    label: str | None = Field(default=None, min_length=1, max_length=40)

    @model_validator(mode="before")
    @classmethod
    def _whole(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            raise ValueError(f"a metric must be {FORM}, but got {values!r}")
        return values

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        given = [name for name in ("function", "recall_of", "f1_of") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"a metric must have one of function, recall_of and f1_of, but got {given or 'none'}")
        if (self.direction is None) == (self.function is not None):
            raise ValueError(f"direction must be given with a function only, but got direction={self.direction!r}")
        return self

    @property
    def of_class(self) -> tuple[str, str] | None:
        """`recall` or `F1` and the class; None for a function."""
        if self.recall_of is not None:
            return "recall", self.recall_of
        return None if self.f1_of is None else ("F1", self.f1_of)


def _own_names(sections: dict[str, MetricSection]) -> dict[str, MetricSection]:
    taken = {*TAKEN, *(field.name for field in fields(Measured))}
    for name in sections:
        known = METRICS.get(name)
        if not name.isidentifier() or name != name.lower():
            raise ValueError(f"a metric must have a name of small letters, digits and _, but got {name!r}")
        if name in taken or (known is not None and not known.own):
            raise ValueError(f"a metric must have a name of its own, but {name!r} is a built-in column")
    return sections


OwnMetrics: TypeAlias = Annotated[dict[str, MetricSection], AfterValidator(_own_names)]
"""The metrics by name."""


def own_rows(sections: Mapping[str, MetricSection]) -> tuple[Metric, ...]:
    """Return the rows of the table of metrics."""
    return tuple(_row(name, section) for name, section in sections.items())


def _row(name: str, section: MetricSection) -> Metric:
    label, of_class = section.label or name.replace("_", " "), section.of_class
    if of_class is not None:
        return Metric(
            name=name,
            summary=f"{of_class[0]} of class {of_class[1]} on the validation split",
            direction="maximize",
            label=label,
            axis_label=f"{label} (%)",
            notation="percent",
            bounds=(0.0, 1.0),
            own=True,
        )
    return Metric(
        name=name,
        summary=f"{section.function} of the answers and targets of the validation split",
        direction=section.direction or "maximize",
        label=label,
        axis_label=label,
        notation="plain",
        bounds=(float("-inf"), float("inf")),
        own=True,
    )
