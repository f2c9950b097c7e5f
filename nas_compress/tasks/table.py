"""The table of tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nas_compress.tasks.image_classification import ImageClassification
from nas_compress.tasks.task import Task


@dataclass(frozen=True, kw_only=True)
class TaskInfo:
    """One task: summary and a small example."""

    summary: str
    example: Task


TASKS: Mapping[str, TaskInfo] = {
    "image_classification": TaskInfo(
        summary="raw uint8 images to one of several classes",
        example=ImageClassification(shape=(1, 8, 8), classes=10),
    ),
}
"""The tasks that ship, by name."""
