"""Rows of the table of metrics that depend on the answers of a file."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from nas_compress.values.metrics.row import Metric


def _share(
    name: str,
    label: str,
    summary: str,
    *,
    axis: str = "",
    chance: Callable[[int], float] | None = None,
) -> Metric:
    """A fraction between 0 and 1, large is good, shown in percent."""
    return Metric(
        name=name,
        summary=summary,
        direction="maximize",
        label=label,
        axis_label=axis or f"{label} (%)",
        notation="percent",
        bounds=(0.0, 1.0),
        chance=chance,
    )


def _error(name: str, label: str, summary: str) -> Metric:
    """An error in the units of the targets, small is good."""
    return Metric(name=name, summary=summary, direction="minimize", label=label, axis_label=label, notation="plain")


TASK_METRICS = (
    _share(
        "accuracy",
        "accuracy",
        "fraction of samples whose class is right, on the validation split",
        chance=lambda classes: 1 / classes,
    ),
    _share(
        "top_5_accuracy",
        "top-5 accuracy",
        "fraction of samples whose class is among the five largest outputs",
        chance=lambda classes: min(1.0, 5 / classes),
    ),
    _share(
        "balanced_accuracy",
        "balanced accuracy",
        "mean over the classes of the fraction of their samples that are right",
        chance=lambda classes: 1 / classes,
    ),
    _share("f1_macro", "macro F1", "mean over the classes or labels of the F1 score"),
    _share("f1_micro", "micro F1", "F1 score of all answers together"),
    _share("exact_match", "exact match", "fraction of samples with every label right"),
    _share(
        "auroc",
        "AUROC",
        "area under the receiver operating characteristic, the mean over classes (one against the rest) or labels",
        chance=lambda classes: 0.5,
    ),
    _share(
        "average_precision",
        "average precision",
        "area under the precision-recall curve, the mean over classes (one against the rest) or labels",
    ),
    _share(
        "mean_iou",
        "mean IoU",
        "mean over the classes of intersection over union of the pixels",
        chance=lambda classes: 1 / (2 * classes - 1),
    ),
    _share(
        "pixel_accuracy",
        "pixel accuracy",
        "fraction of the pixels with a label whose class is right",
        chance=lambda classes: 1 / classes,
    ),
    Metric(
        name="r2",
        summary="1 - squared error / variance of the targets, the mean over targets; 0 for their mean as answer",
        direction="maximize",
        label="R2",
        axis_label="R2",
        notation="plain",
        bounds=(-inf, 1.0),
        chance=lambda classes: 0.0,
    ),
    _error("mse", "mean squared error", "mean squared error in squared units of the targets"),
    _error("mae", "mean absolute error", "mean absolute error in units of the targets"),
)
"""Metrics measured by tasks."""
