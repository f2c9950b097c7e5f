"""The table of tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nas_compress.tasks.classification import Classification
from nas_compress.tasks.multi_label import MultiLabel
from nas_compress.tasks.regression import Regression
from nas_compress.tasks.segmentation import Segmentation
from nas_compress.tasks.several import SeveralTasks
from nas_compress.tasks.task import Task
from nas_compress.values.signature import TensorSpec


@dataclass(frozen=True, kw_only=True)
class TaskInfo:
    """One task: summary and a small example."""

    summary: str
    example: Task


_TABLE_ROW = (TensorSpec(name="input", dtype="float32", shape=("N", 16)),)
_IMAGE = TensorSpec(name="input", dtype="uint8", shape=("N", 1, 4, 4))

TASKS: Mapping[str, TaskInfo] = {
    "image_classification": TaskInfo(
        summary="raw uint8 images to one of several classes",
        example=Classification.of_images(shape=(1, 8, 8), classes=10),
    ),
    "classification": TaskInfo(
        summary="inputs of any type and shape to one of several classes",
        example=Classification(inputs=_TABLE_ROW, classes=3),
    ),
    "multi_label": TaskInfo(
        summary="inputs of any type and shape to any number of labels at once",
        example=MultiLabel(inputs=_TABLE_ROW, label_count=4),
    ),
    "segmentation": TaskInfo(
        summary="images to a class for each pixel",
        example=Segmentation(inputs=(_IMAGE,), class_count=3),
    ),
    "regression": TaskInfo(
        summary="inputs of any type and shape to one or several numbers",
        example=Regression(inputs=_TABLE_ROW, mean=(0.0, 10.0), std=(1.0, 5.0)),
    ),
    "several_tasks": TaskInfo(
        summary="an output for each of several tasks on the same inputs ([tasks.NAME])",
        example=SeveralTasks(
            parts=(
                ("kind", Classification(inputs=_TABLE_ROW, classes=3)),
                ("odd", Classification(inputs=_TABLE_ROW, classes=2)),
                ("size", Regression(inputs=_TABLE_ROW, mean=(1.0,), std=(2.0,))),
            )
        ),
    ),
}
"""The tasks that ship, by name."""
