"""Rows of the report's table, one per trial."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nas_compress.runs.front import Front
from nas_compress.runs.records import Record
from nas_compress.values.front_point import Point

BEFORE_FIGURES = ("trial", "standing")
AFTER_FIGURES = (
    "latency_spread",
    "latency_noisy",
    "agreement",
    "max_difference",
    "zero_fraction",
    "weight_bits",
    "activation_bits",
    "number_format",
    "epochs",
    "epochs_spent",
    "seconds",
    "seed",
    "repeats",
    "reason",
)
"""The columns before and after the metrics. The searched parameters follow."""

STANDINGS = ("front", "beaten", "over budget", "stopped", "failed", "repeated")
"""The standings of trials, most interesting first."""


def table(records: Sequence[Record], front: Front) -> tuple[list[str], list[list[Any]]]:
    """The columns, and one row per trial in the order of trial numbers; None is a missing value.

    A network with early exits has a row for each other choice of thresholds, behind its own.

    A searched parameter with the name of a fixed column gets the column `searched_<name>`.
    """
    fixed = (*BEFORE_FIGURES, *front.figure_names, *AFTER_FIGURES)
    searched = list(dict.fromkeys(name for record in records for name in record.params))
    members = {point.trial for point in front.members if point.exit_point is None}
    others = _other_points(front)
    rows = []
    for record in records:
        params = [record.params.get(name) for name in searched]
        rows.append([*_fixed(record, members, fixed), *params])
        rows += [[*_at_point(record, point, front, fixed), *params] for point in others.get(record.trial, ())]
    return [*fixed, *(f"searched_{name}" if name in fixed else name for name in searched)], rows


def standing(record: Record, members: set[int | str]) -> str:
    """One of STANDINGS."""
    if record.repeats is not None:
        return "repeated"
    if record.trial in members:
        return "front"
    state = record.outcome.state
    if state == "trained":
        return "over budget" if record.outcome.reason else "beaten"
    return {"over_budget": "over budget", "failed": "failed"}.get(state, "stopped")


def _other_points(front: Front) -> dict[int | str, list[Point]]:
    """The points with other thresholds of early exits, by trial."""
    found: dict[int | str, list[Point]] = {}
    for point in front.points:
        if point.exit_point is not None:
            found.setdefault(point.trial, []).append(point)
    return found


def _at_point(record: Record, point: Point, front: Front, columns: Sequence[str]) -> list[Any]:
    """The row of a trained network with other thresholds; its trial is the label of the point."""
    own = dict(zip(columns, _fixed(record, set(), columns), strict=True))
    on_front = any(member is point for member in front.members)
    changed: dict[str, Any] = {
        "trial": point.label,
        "standing": "front" if on_front else "beaten" if point.feasible else "over budget",
    }
    changed |= {name: point.figures.get(name) for name in front.figure_names}
    changed |= dict.fromkeys(("latency_spread", "agreement", "max_difference", "reason"))
    return [_short(changed[name] if name in changed else own[name]) for name in columns]


def _fixed(record: Record, members: set[int | str], columns: Sequence[str]) -> list[Any]:
    outcome = record.outcome
    values = {
        **(outcome.measured.to_dict() if outcome.measured else {}),
        "trial": record.trial,
        "standing": standing(record, members),
        "weight_bits": outcome.candidate.precision.weight_bits,
        "activation_bits": outcome.candidate.precision.activation_bits,
        "number_format": outcome.number_format,
        "epochs": outcome.epochs,
        "epochs_spent": outcome.epochs_spent,
        "seconds": round(sum(outcome.seconds.values()), 2),
        "seed": outcome.seed,
        "repeats": record.repeats,
        "reason": outcome.reason,
    }
    return [_short(values.get(name)) for name in columns]


def _short(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value
