"""Rows of the report's table, one per trial."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nas_compress.runs.front import Front
from nas_compress.runs.records import Record

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

    A searched parameter with the name of a fixed column gets the column `searched_<name>`.
    """
    fixed = (*BEFORE_FIGURES, *front.figure_names, *AFTER_FIGURES)
    searched = list(dict.fromkeys(name for record in records for name in record.params))
    members = {point.trial for point in front.members}
    rows = [[*_fixed(record, members, fixed), *(record.params.get(name) for name in searched)] for record in records]
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
