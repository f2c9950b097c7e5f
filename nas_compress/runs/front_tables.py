"""The front as files: a table of members and a JSON summary."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nas_compress.files import write_json
from nas_compress.runs.csv_table import write_csv
from nas_compress.runs.front import Front, point_values
from nas_compress.values.front_point import Point


def write_front_csv(front: Front, path: Path) -> None:
    """Write the members, best first, and the teacher last. An empty cell is a missing value."""
    write_csv(path, front.columns, front.to_rows())


def write_front_json(front: Front, path: Path, *, stopping: Mapping[str, object] | None = None) -> None:
    """Write objectives, budgets, members, knee, teacher and hypervolume as JSON.

    A knee at an exit point has `knee_exit_point` too.
    stopping: the epochs saved by early stopping. `hypervolume` and `reference` are null without a reference.
    """
    knee, reference = front.knee, front.reference
    summary = {
        "objectives": [{"name": o.name, "direction": o.direction} for o in front.objectives],
        "budgets": [{"name": b.name, "rule": b.rule, "limit": b.limit} for b in front.budgets],
        "points": sum(point.exit_point is None for point in front.points),
        "members": [_values(front, point) for point in front.members],
        "knee": knee.trial if knee else None,
        **({"knee_exit_point": knee.exit_point} if knee and knee.exit_point is not None else {}),
        "teacher": _values(front, front.teacher) if front.teacher else None,
        "hypervolume": front.hypervolume() if reference else None,
        "reference": dict(reference) if reference else None,
        **({"conditions": front.all_conditions} if front.all_conditions else {}),
        **({} if stopping is None else {"stopping": dict(stopping)}),
    }
    write_json(path, summary)


def _values(front: Front, point: Point) -> dict[str, object]:
    known = point_values(point, front.figure_names)
    if point.exit_point is None:
        del known["exit_point"]
    return known | {"float32_latency_ms": point.float32_latency_ms, "searched": dict(point.searched)}
