"""Selection of front members by conditions on the columns of front.csv."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from nas_compress.errors import RequestError, nearest, require_known
from nas_compress.runs.front import Front
from nas_compress.values.front_point import Point
from nas_compress.values.metrics.table import METRICS, Objective

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
        """Whether a row satisfies the condition. An empty cell never does. Numbers compare as numbers."""
        cell = row.get(self.column)
        if cell is None:
            return False
        if isinstance(cell, (int, float)) and not isinstance(cell, bool):
            return _is_number(self.value) and OPERATORS[self.sign](float(cell), float(self.value))
        return OPERATORS[self.sign](str(cell), self.value)


def parse_condition(text: str, columns: Sequence[str]) -> Condition:
    """Parse one `--where`; RequestError for an unknown column or a missing operator."""
    match = re.fullmatch(r"\s*([\w.@-]+?)\s*(<=|>=|==|!=|<|>|=)\s*(.+?)\s*", text)
    if match is None:
        raise RequestError(
            f"--where must be 'column operator value' with one of {', '.join(OPERATORS)}, but got {text!r}"
        )
    column, sign, value = match.groups()
    if column not in columns:
        raise RequestError(f"--where must name a column of front.csv, but got {column!r}{nearest(column, columns)}")
    if column in METRICS and not _is_number(value):
        raise RequestError(f"--where must compare {column} with a number, but got {text!r}")
    return Condition(column=column, sign=sign, value=value)


def kept_members(front: Front, where: Sequence[str]) -> tuple[Point, ...]:
    """The front members that satisfy every condition.

    where: conditions; one text may join several, such as `accuracy>=0.9 and macs<1e6`.
    RequestError for an invalid condition, an empty front, and if no member is left.
    """
    if not front.members:
        raise RequestError("the run must have front members, but no finished trial is on its front")
    texts = [text for joined in where for text in re.split(r"\s+and\s+", joined)]
    conditions = [parse_condition(text, front.columns) for text in texts]
    rows = zip(front.members, front.to_rows(), strict=False)  # the teacher is last
    kept = tuple(point for point, row in rows if all(condition.holds(row) for condition in conditions))
    if not kept:
        raise RequestError(
            f"--where must leave at least one of {len(front.members)} front members, but none has {' and '.join(texts)}"
        )
    return kept


def chosen_members(
    front: Front, *, best: Sequence[str] = (), where: Sequence[str] = (), everything: bool = False
) -> tuple[Point, ...]:
    """Select front members under conditions, each once.

    best: metrics; selects the best member in each. everything: selects all of them. Without either, the knee of the
    remaining members is selected. RequestError if both are given.
    """
    if everything and best:
        raise RequestError(f"at most one of --all and --best must be given, but got --all and --best {best[0]}")
    for name in best:
        require_known("--best", name, METRICS)
    kept = kept_members(front, where)
    if everything:
        return kept
    if not best:
        balanced = replace(front, points=kept).knee
        return () if balanced is None else (balanced,)
    return tuple(dict.fromkeys(_best(kept, name) for name in best))


def _best(kept: Sequence[Point], name: str) -> Point:
    objective = Objective(name=name)
    return min(kept, key=lambda point: objective.cost(point.figure(name)))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
