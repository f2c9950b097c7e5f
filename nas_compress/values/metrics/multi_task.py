"""Metrics of several tasks: `accuracy@NAME`, and the mean over tasks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from nas_compress.values.metrics.row import Metric
from nas_compress.values.metrics.table import METRICS

SIGN = "@"
"""Between the name of a metric and the name of a task."""

MEAN_SCORE = "mean_score"
"""Mean of the primary metrics of all tasks but regressions."""


def of_task(metric: str, task: str) -> str:
    """Return the name of a metric of one of several tasks.

    >>> of_task("accuracy", "parity")
    'accuracy@parity'
    """
    return f"{metric}{SIGN}{task}"


def task_rows(tasks: Iterable[str]) -> tuple[Metric, ...]:
    """Return the rows of the table of metrics for tasks by name, and that of their mean.

    >>> [row.name for row in task_rows(["parity"])][:2]
    ['mean_score', 'accuracy@parity']
    """
    names = list(tasks)
    known = [row for row in METRICS.values() if not (row.known_before_training or row.timed or row.own or row.device)]
    rows = [_row(row, task) for task in names for row in known]
    return (_MEAN, *rows) if names else ()


def _row(metric: Metric, task: str) -> Metric:
    return replace(
        metric,
        name=of_task(metric.name, task),
        summary=f"{metric.summary}, of task {task}",
        label=f"{metric.label} of {task}",
        axis_label=metric.axis_label.replace(metric.label, f"{metric.label} of {task}"),
        chance=None,
        own=True,
    )


_MEAN = Metric(
    name=MEAN_SCORE,
    summary="mean of the primary metrics of all tasks but regressions, on the validation split",
    direction="maximize",
    label="mean score",
    axis_label="mean score (%)",
    notation="percent",
    bounds=(0.0, 1.0),
    own=True,
)
