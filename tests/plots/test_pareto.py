from __future__ import annotations

import re
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nas_compress.errors import RequestError
from nas_compress.plots.panel import staircase
from nas_compress.plots.pareto import pairs, plot_front
from nas_compress.runs.front import Front
from nas_compress.values.front_point import Point
from nas_compress.values.metrics.table import Budget, Objective


def objectives(*names: str) -> tuple[Objective, ...]:
    return tuple(Objective(name=name) for name in names)


def png_size(path: Path) -> tuple[int, int]:
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", head[16:24])
    return width, height


def words(front: Front, folder: Path) -> list[str]:
    """Every piece of text in the picture: an SVG names it in a comment beside its outlines."""
    plot_front(front, folder / "front.svg", title="a study")
    return re.findall(r"<!-- (.*?) -->", (folder / "front.svg").read_text(encoding="utf-8"))


def test_a_png_has_its_signature_and_a_size_for_screens(front: Front, tmp_path: Path) -> None:
    plot_front(front, tmp_path / "front.png", title="a study")
    width, height = png_size(tmp_path / "front.png")
    assert width == 1500
    assert 600 < height < 1000
    assert [path.name for path in tmp_path.iterdir()] == ["front.png"]


def test_the_suffix_chooses_the_format(front: Front, tmp_path: Path) -> None:
    plot_front(front, tmp_path / "front.pdf", title="a study")
    assert (tmp_path / "front.pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(RequestError, match=r"must end in .png, .svg, .pdf, but got 'front.jpg'"):
        plot_front(front, tmp_path / "front.jpg", title="a study")
    assert not (tmp_path / "front.jpg").exists()


@pytest.mark.parametrize(
    "names",
    [
        ("accuracy",),
        ("size_bytes",),
        ("macs", "accuracy"),
        ("latency_ms", "parameters"),
        ("accuracy", "latency_ms", "size_bytes", "macs"),
    ],
)
def test_any_objectives_have_a_picture(front: Front, tmp_path: Path, names: tuple[str, ...]) -> None:
    plot_front(replace(front, objectives=objectives(*names)), tmp_path / "front.png", title="a study")
    assert png_size(tmp_path / "front.png")[0] == 1500


@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("taught", [True, False])
@pytest.mark.parametrize("single", [True, False])
def test_few_points_have_a_picture(front: Front, tmp_path: Path, count: int, taught: bool, single: bool) -> None:
    few = replace(front, points=front.points[:count], teacher=front.teacher if taught else None)
    few = replace(few, objectives=front.objectives[: 1 if single else 2])
    plot_front(few, tmp_path / "front.png", title="a study")
    assert png_size(tmp_path / "front.png")[0] == 1500


def test_only_students_without_accuracy_have_a_picture(front: Front, tmp_path: Path) -> None:
    plot_front(replace(front, points=front.points[6:], teacher=None), tmp_path / "front.png", title="a study")
    assert png_size(tmp_path / "front.png")[0] == 1500


def test_500_points_have_a_picture(front: Front, crowd: tuple[Point, ...], tmp_path: Path) -> None:
    plot_front(replace(front, points=crowd), tmp_path / "front.png", title="a study")
    assert png_size(tmp_path / "front.png")[0] == 1500


def test_the_picture_says_what_it_shows(front: Front, tmp_path: Path) -> None:
    text = words(front, tmp_path)
    assert {"a study", "on the front", "breaks a budget", "shape: int8", "shape: float32"} <= set(text)
    assert front.knee is not None
    assert text.count(f"knee: trial {front.knee.trial}") == 3
    assert text.count("teacher") == 4  # three stars and the legend
    assert text.count("file size ≤ 256 kB") == 2  # the two panels with a size
    assert sum(line.startswith("▼ 1 below") for line in text) == 2  # trial 4, in the two panels with accuracy
    assert any("1 of 7 trials ended before training" in line for line in text)
    assert sum("← better" in line for line in text) == 4
    assert sum("better →" in line for line in text) == 2


def test_a_stopped_trial_is_no_broken_budget(front: Front, tmp_path: Path) -> None:
    stopped = replace(front.points[6], feasible=False, stopped=True)
    text = words(replace(front, points=(*front.points[:3], stopped)), tmp_path)
    assert "stopped early" in text and "breaks a budget" not in text
    assert any("1 of 4 trials were stopped early." in line for line in text)
    assert not any("ended before training" in line for line in text)


def test_what_is_not_there_is_not_in_the_legend(front: Front, tmp_path: Path) -> None:
    points = tuple(replace(point, number_format="") for point in front.points[:3])
    text = words(replace(front, points=points, teacher=None, budgets=()), tmp_path)
    assert "on the front" in text
    assert not {
        "teacher",
        "breaks a budget",
        "stopped early",
        "beyond a budget",
        "beaten by another student",
        "shape: float32",
    } & set(text)


def test_a_budget_outside_the_view_is_named_below_only(front: Front, tmp_path: Path) -> None:
    text = words(replace(front, budgets=(Budget(name="latency_ms", limit=50),)), tmp_path)
    assert "latency ≤ 50 ms" not in text
    assert any("latency ≤ 50 ms" in line for line in text)


def test_accuracy_is_upright_in_every_pair_whatever_its_place(front: Front) -> None:
    mixed = replace(front, objectives=objectives("latency_ms", "accuracy", "size_bytes"))
    assert pairs(mixed) == [
        ("latency_ms", "accuracy"),
        ("latency_ms", "size_bytes"),
        ("size_bytes", "accuracy"),
    ]


def test_the_staircase_worked_by_hand(front: Front) -> None:
    members = front.points[:4]
    up = staircase(members, "latency_ms", "accuracy", right=0.3, worst=0.5)
    assert up.tolist() == [
        [0.05, 0.5], [0.05, 0.90], [0.10, 0.90], [0.10, 0.95], [0.12, 0.95], [0.12, 0.97], [0.3, 0.97],
    ]  # fmt: skip
    down = staircase(members, "latency_ms", "size_bytes", right=0.3, worst=1e6)
    assert down.tolist() == [[0.05, 1e6], [0.05, 20_000], [0.3, 20_000]]
    assert staircase((), "latency_ms", "accuracy", right=1, worst=0).shape == (0, 2)


def test_drawing_leaves_the_global_figures_alone(front: Front, tmp_path: Path) -> None:
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    plot_front(front, tmp_path / "front.png", title="a study")
    assert pyplot.get_fignums() == before


def test_the_same_front_gives_the_same_pixels(front: Front, tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        plot_front(front, tmp_path / name, title="a study")
    assert np.array_equal(*(np.frombuffer((tmp_path / n).read_bytes(), np.uint8) for n in ("one.png", "two.png")))


def test_a_front_plots_itself_as_a_picture_that_notebooks_show(front: Front, tmp_path: Path) -> None:
    picture = front.plot(title="seven students")
    shown = picture._repr_png_()
    assert shown.startswith(b"\x89PNG")
    assert len(picture.figure.axes) == 3
    picture.figure.axes[0].set_xlabel("changed by hand")
    picture.save(tmp_path / "front.svg")
    assert {"seven students", "changed by hand"} <= set(
        re.findall(r"<!-- (.*?) -->", (tmp_path / "front.svg").read_text())
    )
    assert picture._repr_png_() != shown
    with pytest.raises(RequestError, match=r"must end in .png, .svg, .pdf, but got 'front.doc'"):
        picture.save(tmp_path / "front.doc")
