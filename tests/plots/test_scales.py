from __future__ import annotations

from dataclasses import replace
from math import log10

import numpy as np
import pytest
from matplotlib.figure import Figure

from nas_compress.plots import scales
from nas_compress.plots.label_placement import put_label
from nas_compress.plots.marks import shapes
from nas_compress.runs.front import Front
from nas_compress.values.metrics.table import METRICS


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("accuracy", 0.986, "98.6 %"),
        ("latency_ms", 0.0251, "0.0251 ms"),
        ("size_bytes", 999, "999 B"),
        ("size_bytes", 999_900, "1 MB"),
        ("size_bytes", 64_000, "64 kB"),
        ("size_bytes", 1_234_567, "1.23 MB"),
        ("parameters", 61_000, "61 k"),
        ("macs", 2.5e9, "2.5 G"),
    ],
)
def test_figures_for_people(name: str, value: float, words: str) -> None:
    assert METRICS[name].shown(value) == words


@pytest.mark.parametrize("most", [2, 4, 6])
@pytest.mark.parametrize("low", [0.013, 1.0, 4.7e3, 9.9e5])
@pytest.mark.parametrize("ratio", [1.5, 3, 12, 150, 4e4, 1e9])
def test_ticks_on_a_log_axis_are_few_round_and_in_view(low: float, ratio: float, most: int) -> None:
    ticks = scales.log_ticks(low, low * ratio, most)
    assert 1 <= len(ticks) <= most
    assert all(low <= tick <= low * ratio for tick in ticks)
    assert ticks == sorted(set(ticks))
    assert all(len(f"{tick:.12e}".split("e")[0].rstrip("0")) <= 5 for tick in ticks)


def test_ticks_worked_by_hand() -> None:
    assert scales.log_ticks(4_000, 2_000_000) == [1e4, 3e4, 1e5, 3e5, 1e6]
    assert scales.log_ticks(0.02, 0.3) == [0.02, 0.03, 0.05, 0.1, 0.2, 0.3]


def test_all_costs_and_the_near_budget_are_in_view(front: Front) -> None:
    low, high = scales.limits(front, "size_bytes")
    assert low < 20_000 < 1_200_000 < high
    assert log10(high / low) < 2.5


def test_a_failed_student_does_not_flatten_the_front(front: Front) -> None:
    low, high = scales.limits(front, "accuracy")
    assert 0.80 < low < 0.90
    assert 0.986 < high < 1.02
    # also not where it is on the front, because it is the smallest
    small = replace(front.points[4], figures={**front.points[4].figures, "latency_ms": 0.001, "size_bytes": 100})
    low, _ = scales.limits(replace(front, points=(*front.points[:4], small)), "accuracy")
    assert 0.7 < low < 0.90


def test_each_number_format_has_a_shape_of_its_own_unless_all_have_the_same(front: Front) -> None:
    formats = ("", "float32", "int8", "int8 weights", "int4, 4-bit activations simulated")
    points = [replace(front.points[0], number_format=each) for each in formats]
    markers = shapes(points)
    assert markers[""] == markers["float32"] == "o"
    assert len({markers[each] for each in formats}) == 4
    assert set(shapes(points[2:3] * 2).values()) == {"o"}


def test_a_label_keeps_off_the_points_and_inside_the_axes() -> None:
    figure = Figure(figsize=(5, 4), dpi=100)
    axes = figure.add_subplot()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    drawn = np.array([(0.02, 0.5), *((x, y) for x in (0.1, 0.15, 0.2, 0.25) for y in np.linspace(0.5, 1, 30))])
    put_label(axes, (0.02, 0.5), "knee: trial 12", drawn, "black")
    figure.canvas.draw()
    box = axes.texts[0].get_window_extent()
    places = axes.transData.transform(drawn)
    assert not any(box.contains(x, y) for x, y in places)
    assert axes.bbox.x0 <= box.x0
    assert box.x1 <= axes.bbox.x1
