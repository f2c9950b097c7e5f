"""A made front of seven students, for tests of pictures and files."""

from __future__ import annotations

from math import nan

import pytest

from nas_compress.runs.front import Front
from nas_compress.values.front_point import Point
from nas_compress.values.metrics.table import Budget, Objective


def student(trial: int, accuracy: float, latency_ms: float, size_bytes: int, bits: int = 32) -> Point:
    return Point(
        trial=trial,
        figures={
            "accuracy": accuracy,
            "latency_ms": latency_ms,
            "size_bytes": size_bytes,
            "parameters": size_bytes // 4,
            "macs": size_bytes * 20,
        },
        model=f"trials/{trial}/model.onnx",
        searched=(("weight_bits", bits), ("family", "resnet, small")),
        feasible=size_bytes <= 256_000,
        number_format="int8" if bits == 8 else "float32",
    )


@pytest.fixture
def front() -> Front:
    """Five students within the budget (3 is dominated, 4 failed to learn), two beyond it, and a teacher."""
    points = (
        student(0, 0.90, 0.05, 20_000),
        student(1, 0.95, 0.10, 60_000, bits=8),
        student(2, 0.97, 0.12, 200_000),
        student(3, 0.94, 0.11, 70_000),
        student(4, 0.12, 0.11, 70_000),
        student(5, 0.98, 0.20, 600_000),
        student(6, nan, 0.21, 700_000),
    )
    teacher = Point(
        trial="teacher",
        figures={
            "accuracy": 0.986,
            "latency_ms": 0.25,
            "size_bytes": 1_200_000,
            "parameters": 300_000,
            "macs": 6_000_000,
        },
    )
    return Front(
        objectives=tuple(Objective(name=name) for name in ("accuracy", "latency_ms", "size_bytes")),
        points=points,
        classes=10,
        budgets=(Budget(name="size_bytes", limit=256_000),),
        teacher=teacher,
    )
