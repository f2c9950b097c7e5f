"""Metrics of the answers of a whole split, by scikit-learn."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nas_compress.optional_imports import broken_counts_as_missing

Numbers: TypeAlias = NDArray[Any]

Score: TypeAlias = Callable[[Numbers, Numbers], float]
"""From outputs and targets to a figure."""


def accuracy(logits: Numbers, labels: Numbers) -> float:
    """Fraction of samples with the largest of the logits (N, C) at their label (N,)."""
    return float((logits.argmax(axis=1) == labels).mean())


def top_5_accuracy(logits: Numbers, labels: Numbers) -> float:
    """Fraction of samples with fewer than five logits above that of their label; equal logits count half."""
    own = logits[np.arange(len(labels)), labels][:, None]
    rank = (logits > own).sum(axis=1) + ((logits == own).sum(axis=1) - 1) / 2
    return float((rank < 5).mean())


def balanced_accuracy(logits: Numbers, labels: Numbers) -> float:
    """Mean recall over the classes that occur among the labels."""
    right = logits.argmax(axis=1) == labels
    return float(np.mean([right[labels == label].mean() for label in np.unique(labels)]))


def f1_macro(logits: Numbers, labels: Numbers) -> float:
    """Mean F1 score over the classes; 0 for a class without true or answered samples."""
    return _f1(labels, logits.argmax(axis=1), np.arange(logits.shape[1]))


def recall_of_class(logits: Numbers, labels: Numbers, *, label: int) -> float:
    """Fraction of the samples of one class that are answered so; 0 without such samples."""
    return float((logits[labels == label].argmax(axis=1) == label).mean()) if (labels == label).any() else 0.0


def f1_of_class(logits: Numbers, labels: Numbers, *, label: int) -> float:
    """F1 score of one class against the rest; 0 for a class without true or answered samples."""
    return _f1(labels, logits.argmax(axis=1), [label])


def auroc(logits: Numbers, labels: Numbers) -> float:
    """Mean over classes of the area under the curve of one class against the rest; classes without samples left out."""
    return _over_labels("roc_auc_score", _probabilities(logits), _one_hot(labels, logits.shape[1]))


def average_precision(logits: Numbers, labels: Numbers) -> float:
    """Mean over classes of the average precision of one class against the rest."""
    return _over_labels("average_precision_score", _probabilities(logits), _one_hot(labels, logits.shape[1]))


CLASSIFICATION: Mapping[str, Score] = {
    "accuracy": accuracy,
    "top_5_accuracy": top_5_accuracy,
    "balanced_accuracy": balanced_accuracy,
    "f1_macro": f1_macro,
    "auroc": auroc,
    "average_precision": average_precision,
}
"""Scores of logits (N, C) against labels (N,)."""


def label_f1_macro(logits: Numbers, labels: Numbers) -> float:
    """Mean F1 score over labels; a label is answered if its logit is above 0."""
    return float(np.mean([_f1(labels[:, k] > 0.5, logits[:, k] > 0, [True]) for k in range(labels.shape[1])]))


def label_f1_micro(logits: Numbers, labels: Numbers) -> float:
    """F1 score of all labels of all samples together."""
    return _f1(labels.ravel() > 0.5, logits.ravel() > 0, [True])


def exact_match(logits: Numbers, labels: Numbers) -> float:
    """Fraction of samples with every label right."""
    return float(((logits > 0) == (labels > 0.5)).all(axis=1).mean())


def label_auroc(logits: Numbers, labels: Numbers) -> float:
    """Mean over labels of the area under the curve; labels of one value only are left out."""
    return _over_labels("roc_auc_score", logits, labels > 0.5)


def label_average_precision(logits: Numbers, labels: Numbers) -> float:
    """Mean over labels of the average precision."""
    return _over_labels("average_precision_score", logits, labels > 0.5)


MULTI_LABEL: Mapping[str, Score] = {
    "f1_macro": label_f1_macro,
    "f1_micro": label_f1_micro,
    "exact_match": exact_match,
    "auroc": label_auroc,
    "average_precision": label_average_precision,
}
"""Scores of logits (N, L) against labels 0 or 1 (N, L)."""


def r2(values: Numbers, targets: Numbers) -> float:
    """Mean over the targets of the coefficient of determination."""
    return float(_metrics().r2_score(targets, values, multioutput="uniform_average"))


def mse(values: Numbers, targets: Numbers) -> float:
    """Mean squared error."""
    return float(((values.astype(np.float64) - targets) ** 2).mean())


def mae(values: Numbers, targets: Numbers) -> float:
    """Mean absolute error."""
    return float(np.abs(values.astype(np.float64) - targets).mean())


REGRESSION: Mapping[str, Score] = {"r2": r2, "mse": mse, "mae": mae}
"""Scores of values (N, K) against targets (N, K)."""


AT_ONCE = 2**22
"""Pixels that are counted together, which limits the memory."""


def pixel_counts(answers: Numbers, mask: Numbers, *, classes: int, ignored: int) -> Numbers:
    """Return the confusion counts (classes, classes), int64: a row for each label, a column for each answer.

    answers, mask: classes of pixels (N, H, W). Pixels with the label `ignored` are left out.
    """
    counts, names = np.zeros((classes, classes), dtype=np.int64), np.arange(classes)
    step = max(1, AT_ONCE // max(1, mask[:1].size))
    for start in range(0, len(mask), step):
        truth = mask[start : start + step].ravel()
        known = truth != ignored
        if known.any():
            given = answers[start : start + step].ravel()
            counts += _metrics().confusion_matrix(truth[known], given[known], labels=names)
    return counts


def mean_iou(counts: Numbers) -> float:
    """Mean over the classes that were labelled or answered of intersection over union; 0 without a labelled pixel."""
    inside = np.diag(counts)
    union = counts.sum(axis=0) + counts.sum(axis=1) - inside
    return float((inside[union > 0] / union[union > 0]).mean()) if counts.any() else 0.0


def pixel_accuracy(counts: Numbers) -> float:
    """Fraction of the labelled pixels with the right class; 0 without a labelled pixel."""
    return float(np.diag(counts).sum() / max(1, counts.sum()))


SEGMENTATION: Mapping[str, Callable[[Numbers], float]] = {"mean_iou": mean_iou, "pixel_accuracy": pixel_accuracy}
"""Scores of the confusion counts of pixels (classes, classes)."""


def _probabilities(logits: Numbers) -> Numbers:
    raised = np.exp((logits - logits.max(axis=1, keepdims=True)).astype(np.float64))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def _one_hot(labels: Numbers, classes: int) -> Numbers:
    return np.asarray(labels[:, None] == np.arange(classes))


def _over_labels(name: str, scores: Numbers, truth: Numbers) -> float:
    """Mean of a score of scikit-learn over the columns with both values; 0 if there is none."""
    metrics = _metrics()
    both = [k for k in range(truth.shape[1]) if 0 < truth[:, k].sum() < len(truth)]
    return float(np.mean([getattr(metrics, name)(truth[:, k], scores[:, k]) for k in both])) if both else 0.0


def _f1(truth: Numbers, answers: Numbers, labels: Any) -> float:
    return float(_metrics().f1_score(truth, answers, labels=labels, average="macro", zero_division=0))


@functools.cache
def _metrics() -> Any:
    """Return scikit-learn's metrics; their import takes a second, so it waits for the first use."""
    with broken_counts_as_missing("pandas"):
        return importlib.import_module("sklearn.metrics")
