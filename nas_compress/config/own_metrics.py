"""`[metrics]`: metrics by functions of the user. Reading a study never imports them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, Field, model_validator

from nas_compress.config.section import Section
from nas_compress.values.metric import Direction, Metric
from nas_compress.values.metrics import METRICS
from nas_compress.values.outcome import Measured

TAKEN = ("trial", "model", "epochs_spent", "number_format", "conditions", "files", "reward")
"""Names of other columns."""

FORM = '{ function = "module:callable", direction = "maximize" or "minimize" }'


class MetricSection(Section):
    """`[metrics] NAME = {...}`: one metric.

    function: takes the answers and the targets of a whole split and returns a number. Each is the array of the only
    output and target, or a mapping of arrays by name if there are several.
    chance: value of answers without knowledge. label: words for it in texts and plots, by default the name.
    """

    function: str = Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    direction: Direction
    chance: float | None = None
    label: str | None = Field(default=None, min_length=1, max_length=40)

    @model_validator(mode="before")
    @classmethod
    def _whole(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            raise ValueError(f"a metric must be {FORM}, but got {values!r}")
        return values


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
    return tuple(
        Metric(
            name=name,
            summary=f"{section.function} of the answers and targets of the validation split",
            direction=section.direction,
            label=section.label or name.replace("_", " "),
            axis_label=section.label or name.replace("_", " "),
            notation="plain",
            bounds=(float("-inf"), float("inf")),
            own=True,
        )
        for name, section in sections.items()
    )
