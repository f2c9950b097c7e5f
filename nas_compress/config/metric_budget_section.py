"""`[budgets]`: limits on metrics, absolute or relative to the teacher."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, PositiveFloat, SerializerFunctionWrapHandler, model_serializer

from nas_compress.config.section import Section
from nas_compress.errors import RequestError
from nas_compress.values.metrics.table import METRICS, Budget


class BudgetSection(Section):
    """`[budgets.<figure>]`: one limit.

    at_least, at_most: value of a maximised and of a minimised figure.
    loss_at_most: how much worse than the teacher's figure, in its unit.
    fraction_at_least, fraction_at_most: share of the teacher's figure, of a maximised and of a minimised one.
    """

    at_least: PositiveFloat | None = None
    at_most: PositiveFloat | None = None
    loss_at_most: float | None = Field(default=None, ge=0.0)
    fraction_at_least: PositiveFloat | None = None
    fraction_at_most: PositiveFloat | None = None

    @model_serializer(mode="wrap")
    def _given_ways(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # the form of studies from before the relative limits, which keeps their identity
        values: dict[str, Any] = plain(self)
        return {name: value for name, value in values.items() if value is not None or name in ("at_least", "at_most")}

    @property
    def is_relative(self) -> bool:
        """True if the limit depends on the teacher."""
        return self.at_least is None and self.at_most is None


def require_rule(name: str, section: BudgetSection) -> None:
    """Raise RequestError unless the budget has exactly one limit, in the direction of its figure."""
    right = Budget(name=name, limit=1.0).rule
    given = {key: value for key, value in section.model_dump().items() if value is not None}
    relative = ("loss_at_most", f"fraction_{right}")
    if len(given) != 1 or next(iter(given)) not in (right, *relative):
        better = "higher" if METRICS[name].direction == "maximize" else "lower"
        way_out = f"; limits against the teacher: {', '.join(relative)}"
        raise RequestError(
            f"budgets.{name} must have {right} ({better} is better), but got {given or 'nothing'}{way_out}"
        )
    (key, limit), most = next(iter(given.items())), METRICS[name].bounds[1]
    if (key == right and limit > most) or (key == "loss_at_most" and limit >= most):
        sign = "<" if key == "loss_at_most" else "<="
        rule = f"budgets.{name}.{key} {sign} {most:g} must hold" + " (a fraction)" * (most == 1)
        raise RequestError(f"{rule}, but got {limit:g}")


def absolute_budgets(sections: Mapping[str, BudgetSection]) -> tuple[Budget, ...]:
    """Return the budgets with a known limit, in the file's order. Relative ones follow from `resolved_budgets`."""
    limits = {name: section.at_least or section.at_most for name, section in sections.items()}
    return tuple(Budget(name=name, limit=limit) for name, limit in limits.items() if limit is not None)


def resolved_budgets(sections: Mapping[str, BudgetSection], teacher: Mapping[str, float]) -> tuple[Budget, ...]:
    """Return every budget, in the file's order. teacher: figures of its file, by metric.

    RequestError if a share of a figure of 0 or less is asked for, or if the teacher has no such figure.
    """
    known = {budget.name: budget for budget in absolute_budgets(sections)}
    return tuple(
        known[name] if name in known else _resolved(name, section, teacher) for name, section in sections.items()
    )


def _resolved(name: str, section: BudgetSection, teacher: Mapping[str, float]) -> Budget:
    if name not in teacher:
        raise RequestError(
            f"budgets.{name} needs the teacher's {name}, but it was not measured; use at_least or at_most"
        )
    metric, figure = METRICS[name], teacher[name]
    sign = -1 if metric.direction == "maximize" else 1
    if section.loss_at_most is not None:
        apart = f"{abs(section.loss_at_most):g}"
        words = f"{apart} {'below' if sign < 0 else 'above'} the teacher's {figure:g}"
        return Budget(name=name, limit=figure + sign * section.loss_at_most, relative=words)
    fraction = section.fraction_at_least if section.fraction_at_least is not None else section.fraction_at_most
    if fraction is None or not figure > 0:
        raise RequestError(
            f"budgets.{name}: a fraction needs a teacher's figure above 0, but got {figure:g}; use loss_at_most"
        )
    return Budget(name=name, limit=figure * fraction, relative=f"{fraction:g} times the teacher's {figure:g}")
