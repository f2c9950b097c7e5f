"""Confusion counts: hand-worked, as text, and refused in any other form."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from nas_compress.measurement.confusion import confusion_rows, read_rows
from nas_compress.tasks.classification import Classification
from nas_compress.values.outcome import Measured

LABELS = np.array([0, 0, 1, 2, 2, 2])
ANSWERS = np.array([0, 1, 1, 0, 2, 2])
COUNTS = [[1, 1, 0], [0, 1, 0], [1, 0, 2]]


def task(classes: int) -> Classification:
    return Classification.of_images(shape=(1, 8, 8), classes=classes)


def rows_of(labels: np.ndarray, classes: int = 3) -> tuple[str, ...]:
    logits = np.eye(classes, dtype=np.float32)[ANSWERS]
    return confusion_rows(task(classes), {"logits": logits}, {"label": labels})


def test_counts_are_kept_as_one_string_per_label() -> None:
    assert rows_of(LABELS) == ("1 1 0", "0 1 0", "1 0 2")
    found = read_rows(rows_of(LABELS))
    assert found is not None and found.tolist() == COUNTS


def test_the_trace_is_the_accuracy() -> None:
    outputs, targets = {"logits": np.eye(3, dtype=np.float32)[ANSWERS]}, {"label": LABELS}
    counts = read_rows(confusion_rows(task(3), outputs, targets))
    assert counts is not None
    assert counts.trace() / counts.sum() == task(3).measure(outputs, targets)["accuracy"]


def test_samples_without_a_label_are_left_out() -> None:
    assert rows_of(np.array([0, 0, 1, 2, -100, 7])) == ("1 1 0", "0 1 0", "1 0 0")


def test_tasks_of_more_than_100_classes_keep_none() -> None:
    assert len(rows_of(LABELS, classes=100)) == 100
    assert rows_of(LABELS, classes=101) == ()


def test_a_task_whose_logits_are_no_table_keeps_none() -> None:
    assert confusion_rows(task(3), {"logits": np.zeros((6, 3, 2), np.float32)}, {"label": LABELS}) == ()


@pytest.mark.parametrize(
    "rows",
    [
        (),
        ("1 2",),
        ("1 2", "3"),
        ("1 2", "3 x"),
        ("1 2", "3 -4"),
        ("1 2", 3),
        ("1 2", "3  4"),
        ("1 2", "3 " + "9" * 40),
        ("1 2", "<b> 4"),
        ["1 "] * 101,
    ],
)
def test_other_text_is_no_matrix(rows: list[object]) -> None:
    assert read_rows(rows) is None


def test_a_record_keeps_them_through_json_and_older_records_have_none() -> None:
    plain = Measured(figures={"accuracy": 0.5}, latency_spread=0.0, latency_noisy=False)
    counted = replace(plain, confusion=("1 0", "0 1"))
    assert Measured.from_dict(json.loads(json.dumps(counted.to_dict()))) == counted
    older = plain.to_dict()
    del older["confusion"]
    assert Measured.from_dict(older) == plain
