"""The floor of the quality of interest against the teacher."""

from __future__ import annotations

from nas_compress.config.schema import StudySpec
from nas_compress.errors import RequestError
from nas_compress.values.outcome import Measured


def require_floor_in_reach(spec: StudySpec, teacher: Measured) -> None:
    """Raise RequestError if `search.accuracy_floor` is above the teacher's figure, because no student may reach it."""
    floor, quality = spec.search.accuracy_floor, spec.quality
    if floor is None or quality is None or quality.name not in teacher.figures:
        return
    reached = teacher.figures[quality.name]
    if floor > reached:
        raise RequestError(
            f"search.accuracy_floor <= {quality.name} of the teacher ({reached:.4g}) must hold, but got {floor:g}; "
            "lower it and use another --out, or train a better teacher"
        )
