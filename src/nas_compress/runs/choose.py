"""Choose front members by conditions on the columns of front.csv."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nas_compress.errors import RequestError, nearest, require_known
from nas_compress.front import Front, Point
from nas_compress.objective import DIRECTIONS, Objective

OPERATORS: dict[str, Callable[[object, object], bool]] = {
    "<=": operator.le,  # type: ignore[dict-item]
    ">=": operator.ge,  # type: ignore[dict-item]
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,  # type: ignore[dict-item]
    ">": operator.gt,  # type: ignore[dict-item]
    "=": operator.eq,
}


@dataclass(frozen=True, kw_only=True)
class Condition:
    """`column operator value`, such as `size_bytes<=64000` or `family==resnet`."""

    column: str
    sign: str
    value: str

    def holds(self, row: dict[str, object]) -> bool:
        """Whether a row keeps the condition; an empty cell keeps none. Numbers compare as numbers."""
        cell = row.get(self.column)
        if cell is None:
            return False
        if isinstance(cell, (int, float)) and not isinstance(cell, bool):
            return _is_number(self.value) and OPERATORS[self.sign](float(cell), float(self.value))
        return OPERATORS[self.sign](str(cell), self.value)


def parse_condition(text: str, columns: Sequence[str]) -> Condition:
    """Read one `--where`; RequestError for an unknown column or no operator."""
    match = re.fullmatch(r"\s*([\w.-]+?)\s*(<=|>=|==|!=|<|>|=)\s*(.+?)\s*", text)
    if match is None:
        raise RequestError(
            f"--where must be 'column operator value' with one of {', '.join(OPERATORS)}, but got {text!r}"
        )
    column, sign, value = match.groups()
    if column not in columns:
        raise RequestError(f"--where must name a column of front.csv, but got {column!r}{nearest(column, columns)}")
    if column in DIRECTIONS and not _is_number(value):
        raise RequestError(f"--where must compare {column} with a number, but got {text!r}")
    return Condition(column=column, sign=sign, value=value)


def best_member(front: Front, objective: str, where: Sequence[str]) -> Point:
    """The front member that is best in one figure among those that keep every condition."""
    require_known("--best", objective, DIRECTIONS)
    conditions = [parse_condition(text, front.columns) for text in where]
    rows = {row["trial"]: row for row in front.to_rows()}
    kept = [point for point in front.members if all(condition.holds(rows[point.trial]) for condition in conditions)]
    if not kept:
        asked = " and ".join(where) or "being on the front"
        raise RequestError(
            f"--where must leave at least one of {len(front.members)} front members, but none has {asked}"
        )
    chosen = Objective(name=objective)
    return min(kept, key=lambda point: chosen.cost(point.figure(objective)))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
