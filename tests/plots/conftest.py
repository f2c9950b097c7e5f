from __future__ import annotations

import numpy as np
import pytest

from fronts import front as front
from fronts import student
from nas_compress.values.front_point import Point


@pytest.fixture
def crowd() -> tuple[Point, ...]:
    """500 random students."""
    rows = np.random.default_rng(0).random((500, 3))
    return tuple(
        student(trial, float(a), float(0.01 + latency), 1000 + int(size * 400_000), bits=8 if trial % 2 else 32)
        for trial, (a, latency, size) in enumerate(rows)
    )
