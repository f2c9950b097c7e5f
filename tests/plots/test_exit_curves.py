"""Exit points of a trained network: points of the front, joined in pictures, one step of the history."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nas_compress.plots.panel import curves
from nas_compress.plots.pareto import plot_front
from nas_compress.plots.progress_curves import plot_hypervolume
from nas_compress.plots.scales import limits
from nas_compress.runs.front import Front
from nas_compress.runs.selection import chosen_members
from nas_compress.values.front_point import Point
from nas_compress.values.metrics.table import Objective


def point(trial: int, accuracy: float, latency_ms: float, **others: object) -> Point:
    figures = {"accuracy": accuracy, "latency_ms": latency_ms, "size_bytes": 9_000.0}
    if others.get("early_exits"):
        figures["latency_p95_ms"] = 0.9
    return Point(trial=trial, figures=figures, **others)  # type: ignore[arg-type]


PLAIN = point(0, 0.8, 0.2)
OWN = point(1, 0.9, 0.4, early_exits=True)
FASTER = point(1, 0.85, 0.25, early_exits=True, exit_point=3)
BEATEN = point(1, 0.7, 0.3, early_exits=True, exit_point=4)
FRONT = Front(
    objectives=(Objective(name="accuracy"), Objective(name="latency_ms"), Objective(name="size_bytes")),
    points=(PLAIN, OWN, FASTER, BEATEN),
    teacher=Point(trial="teacher", figures={"accuracy": 0.95, "latency_ms": 1.0, "size_bytes": 90_000.0}),
    classes=10,
)


def test_exit_points_are_members_of_their_own() -> None:
    assert [member.label for member in FRONT.members] == ["1", "1/3", "0"]
    assert [row["exit_point"] for row in FRONT.to_rows()] == [None, 3, None, None]
    (member,) = chosen_members(FRONT, where=["accuracy<0.9 and latency_ms>0.2"])
    assert member is FASTER
    assert "exit_point" not in replace(FRONT, points=(PLAIN, OWN)).columns


def test_the_points_of_a_network_are_joined_where_accuracy_is_upright() -> None:
    assert curves(FRONT, "latency_ms", "accuracy") == [[FASTER, BEATEN, OWN]]
    assert curves(FRONT, "latency_ms", "size_bytes") == curves(FRONT, "size_bytes", "accuracy") == []
    assert limits(FRONT, "latency_ms")[1] > 0.9


def test_pictures_say_what_the_curves_are_and_count_trials(tmp_path: Path) -> None:
    plot_front(FRONT, tmp_path / "front.svg", title="exits")
    drawn = (tmp_path / "front.svg").read_text()
    assert "exit points of one network" in drawn
    assert "p95 latency of a network with exits" in drawn
    finished = [(1.0, PLAIN), *((2.0, each) for each in (OWN, FASTER, BEATEN))]
    plot_hypervolume(finished, FRONT, tmp_path / "history.svg", title="exits")
    assert f"<!-- {FRONT.hypervolume():.3g} -->" in (tmp_path / "history.svg").read_text()
