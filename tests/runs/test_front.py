from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from io import StringIO
from math import log10, nan

import numpy as np
import pytest
from rich.console import Console

from nas_compress.errors import RequestError
from nas_compress.runs.front import Front
from nas_compress.values.front_point import Point
from nas_compress.values.metrics.table import Budget, Objective
from nas_compress.values.pareto import hypervolume, knee, non_dominated


def point(
    trial: int | str,
    accuracy: float,
    *,
    latency_ms: float = 0.1,
    size_bytes: int = 1000,
    epochs_spent: int | None = None,
    model: str = "",
    searched: tuple[tuple[str, object], ...] = (),
    feasible: bool = True,
) -> Point:
    return Point(
        trial=trial,
        figures={
            "accuracy": accuracy,
            "latency_ms": latency_ms,
            "size_bytes": size_bytes,
            "parameters": 10,
            "macs": 20,
        },
        epochs_spent=epochs_spent,
        model=model,
        searched=searched,
        feasible=feasible,
    )


ACCURACY_SIZE = (Objective(name="accuracy"), Objective(name="size_bytes"))
THREE = (Objective(name="accuracy"), Objective(name="latency_ms"), Objective(name="size_bytes"))
TEACHER = point("teacher", 0.95, latency_ms=1.0, size_bytes=100_000)


# dominance


def test_dominance_worked_by_hand() -> None:
    costs = np.array([[1, 5], [2, 2], [3, 2], [4, 1], [2, 6], [1, 5]])
    assert non_dominated(costs).tolist() == [True, True, False, True, False, False]


def test_of_equal_rows_the_first_is_kept_also_where_another_sorts_between() -> None:
    assert non_dominated(np.array([[2, 1], [1, 2], [2, 1], [1, 2]])).tolist() == [True, True, False, False]


def test_no_row_is_marked_that_another_dominates_and_every_other_is_covered() -> None:
    costs = np.random.default_rng(0).integers(0, 6, (200, 3))
    keep = non_dominated(costs)
    for index, row in enumerate(costs):
        dominators = (costs <= row).all(axis=1) & (costs < row).any(axis=1)
        earlier = (costs[:index] == row).all(axis=1)
        assert keep[index] == (not dominators.any() and not earlier.any())


def test_an_empty_table_has_an_empty_front() -> None:
    assert non_dominated(np.empty((0, 3))).shape == (0,)


@pytest.mark.parametrize("costs", [np.zeros(3), np.zeros((2, 0)), np.array([[1.0, nan]])])
def test_dominance_refuses_what_is_not_a_table_of_numbers(costs: np.ndarray) -> None:
    with pytest.raises(RequestError, match="costs must"):
        non_dominated(costs)


# hypervolume


@pytest.mark.parametrize(
    ("costs", "reference", "volume"),
    [
        ([[2]], [7], 5),
        ([[1, 3]], [4, 5], 3 * 2),
        ([[1, 3], [2, 1]], [4, 5], 3 * 2 + 2 * 2),
        ([[1, 4], [1, 2], [3, 0]], [4, 5], 3 * 3 + 1 * 2),
        ([[1, 2, 3]], [3, 5, 7], 2 * 3 * 4),
        # two boxes of 2*3*4 = 24 and 1*4*6 = 24 that share 1*3*4 = 12
        ([[1, 2, 3], [2, 1, 1]], [3, 5, 7], 24 + 24 - 12),
        # three unit bars along the axes of a 2*2*2 cube: only the corner cube is shared
        ([[0, 1, 1], [1, 0, 1], [1, 1, 0]], [2, 2, 2], 4),
        # 1*2*3*4 = 24 and 2*1*1*5 = 10 share 1*1*1*4 = 4
        ([[2, 1, 1, 2], [1, 2, 3, 1]], [3, 3, 4, 6], 24 + 10 - 4),
    ],
)
def test_hypervolume_worked_by_hand(costs: list[list[float]], reference: list[float], volume: float) -> None:
    assert hypervolume(np.array(costs), np.array(reference)) == pytest.approx(volume)


@pytest.mark.parametrize("objectives", [1, 2, 3, 4, 5])
def test_hypervolume_knows_no_order_of_rows_or_columns(objectives: int) -> None:
    random = np.random.default_rng(objectives)
    costs, reference = random.random((12, objectives)), np.linspace(0.8, 1.1, objectives)
    volume = hypervolume(costs, reference)
    columns = random.permutation(objectives)
    assert hypervolume(random.permutation(costs), reference) == pytest.approx(volume, rel=1e-12)
    assert hypervolume(costs[:, columns], reference[columns]) == pytest.approx(volume, rel=1e-12)


@pytest.mark.parametrize("objectives", [2, 3, 4])
def test_hypervolume_agrees_with_counting_random_samples(objectives: int) -> None:
    random = np.random.default_rng(objectives)
    directions = np.abs(random.normal(size=(15, objectives)))
    costs = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    samples = random.random((100_000, objectives)) * 1.2
    covered = np.zeros(len(samples), dtype=bool)
    for row in costs:
        covered |= (samples >= row).all(axis=1)
    box = 1.2**objectives
    error = 5 * box * np.sqrt(covered.mean() * (1 - covered.mean()) / len(samples))
    assert hypervolume(costs, np.full(objectives, 1.2)) == pytest.approx(covered.mean() * box, abs=error)


@pytest.mark.parametrize("objectives", [2, 3, 4])
def test_a_grid_with_many_ties_agrees_with_counting_its_cells(objectives: int) -> None:
    random = np.random.default_rng(7)
    costs = random.integers(0, 6, (20, objectives))
    cells = np.stack(np.meshgrid(*[np.arange(5)] * objectives), axis=-1).reshape(-1, objectives)
    covered = (costs[None] <= cells[:, None]).all(axis=2).any(axis=1).sum()
    assert hypervolume(costs, np.full(objectives, 5)) == pytest.approx(covered)


@pytest.mark.parametrize("objectives", [2, 3, 4])
def test_hypervolume_never_falls_and_rises_only_for_new_ground(objectives: int) -> None:
    random = np.random.default_rng(objectives + 10)
    costs, reference = random.random((25, objectives)), np.full(objectives, 0.9)
    volumes = [hypervolume(costs[:count], reference) for count in range(len(costs) + 1)]
    for count, row in enumerate(costs):
        fresh = (row < reference).all() and not (costs[:count] <= row).all(axis=1).any()
        if fresh:
            assert volumes[count + 1] > volumes[count]
        else:
            assert volumes[count + 1] == pytest.approx(volumes[count], abs=1e-12)


def test_points_outside_or_on_the_reference_add_nothing() -> None:
    inside = [[1.0, 1.0, 1.0]]
    outside = [[0.0, 0.0, 2.0], [3.0, 0.0, 0.0], [0.0, np.inf, 0.0]]
    reference = np.full(3, 2.0)
    assert hypervolume(np.array(outside), reference) == 0
    assert hypervolume(np.array(inside + outside), reference) == pytest.approx(1)
    assert hypervolume(np.empty((0, 3)), reference) == 0


@pytest.mark.parametrize("reference", [[1.0], [1.0, nan], [1.0, np.inf], [[1.0, 1.0]]])
def test_hypervolume_refuses_a_reference_that_does_not_fit(reference: list[float]) -> None:
    with pytest.raises(RequestError, match="the reference must be 2 finite numbers"):
        hypervolume(np.zeros((1, 2)), np.array(reference))


# knee


def test_knee_worked_by_hand() -> None:
    # scaled: (0, 1), (0.25, 0.3), (0.3, 0.29), (1, 0); distances 1, 0.391, 0.417, 1
    assert knee(np.array([[10, 200], [20, 130], [22, 129], [50, 100]])) == 1


def test_knee_ignores_dominated_rows_also_for_the_scale() -> None:
    costs = np.array([[10, 200], [20, 130], [22, 129], [50, 100], [9000, 9000]])
    assert knee(costs) == 1
    assert knee(costs[::-1]) == 3


def test_of_equally_near_rows_the_first_is_the_knee() -> None:
    assert knee(np.array([[0, 3], [1, 2], [2, 1], [3, 0]])) == 1
    assert knee(np.array([[0, 3], [2, 1], [1, 2], [3, 0]])) == 1
    assert knee(np.array([[5, 5], [5, 5]])) == 0


def test_one_row_is_its_own_knee_and_none_is_refused() -> None:
    assert knee(np.array([[3.0, 4.0, 5.0]])) == 0
    with pytest.raises(RequestError, match="at least one row"):
        knee(np.empty((0, 2)))


# Front


def test_members_are_feasible_non_dominated_and_best_first() -> None:
    front = Front(
        objectives=ACCURACY_SIZE,
        classes=10,
        budgets=(Budget(name="size_bytes", limit=8000),),
        points=(
            point(0, 0.80, size_bytes=2000),
            point(1, 0.90, size_bytes=5000),
            point(2, 0.90, size_bytes=5000),  # the same figures later
            point(3, 0.85, size_bytes=6000),  # dominated by 1
            point(4, 0.99, size_bytes=9000, feasible=False),
            point(5, nan, size_bytes=100, feasible=False),
            point(6, nan, size_bytes=100),  # ended before training though within budget
        ),
    )
    assert [member.trial for member in front.members] == [1, 0]
    assert [other.trial for other in front.dominated] == [2, 3]


def test_members_follow_the_first_objective_in_its_own_direction() -> None:
    points = (point(0, 0.8, size_bytes=2000), point(1, 0.9, size_bytes=5000), point(2, 0.7, size_bytes=1000))
    by_size = Front(objectives=ACCURACY_SIZE[::-1], classes=10, points=points)
    assert [member.trial for member in by_size.members] == [2, 0, 1]


def test_one_objective_has_one_member() -> None:
    points = (point(0, 0.8), point(1, 0.9), point(2, 0.9))
    front = Front(objectives=(Objective(name="accuracy"),), classes=10, points=points)
    assert [member.trial for member in front.members] == [1]
    assert front.knee is points[1]
    assert front.hypervolume() == pytest.approx(0.8)


def test_an_empty_front_has_no_member_no_knee_and_no_volume() -> None:
    front = Front(objectives=THREE, classes=10, points=(), teacher=TEACHER)
    assert front.members == front.dominated == ()
    assert front.knee is None
    assert front.hypervolume() == 0
    assert front.hypervolume_history(()).shape == (0,)


def with_accuracy_and_size(*figures: tuple[float, int]) -> Front:
    points = tuple(point(trial, accuracy, size_bytes=size) for trial, (accuracy, size) in enumerate(figures))
    return Front(objectives=ACCURACY_SIZE, classes=10, points=points)


def test_the_knee_counts_costs_by_their_logarithm() -> None:
    # sizes of 1, 3, 4 decades: scaled costs (1, 0), (0.5, 2/3), (0, 1), and 0.83 is the least distance
    front = with_accuracy_and_size((0.5, 10), (0.7, 1000), (0.9, 10_000))
    assert front.knee is front.points[1]
    # in plain bytes trial 1 would be near the ideal at (0.5, 0.43); by decades (0.5, 0.87) it is 1.004 away
    front = with_accuracy_and_size((0.5, 10), (0.7, 3000), (0.9, 7000))
    assert front.knee is front.points[2]


def test_front_hypervolume_worked_by_hand() -> None:
    points = (
        point(0, 0.9, latency_ms=0.1, size_bytes=1000),  # 0.8 x 1 x 2 = 1.6
        point(1, 0.95, latency_ms=0.5, size_bytes=50_000),  # adds 0.05 x log10(2) x log10(2)
        point(2, 0.99, latency_ms=2.0, size_bytes=10),  # slower than the teacher
        point(3, 0.99, latency_ms=0.01, size_bytes=10, feasible=False),
    )
    front = Front(objectives=THREE, classes=10, points=points, teacher=TEACHER)
    assert front.reference == (("accuracy", 0.1), ("latency_ms", 1.0), ("size_bytes", 100_000))
    assert front.normalised_costs(points[:1]).tolist() == [pytest.approx([-0.8, -1, -2])]
    assert front.hypervolume() == pytest.approx(1.6 + 0.05 * log10(2) ** 2)


def test_without_a_teacher_the_reference_must_be_given() -> None:
    points = (point(0, 0.9, size_bytes=1000),)
    bare = Front(objectives=ACCURACY_SIZE, classes=10, points=points)
    assert bare.reference is None
    with pytest.raises(RequestError, match="needs a teacher or all reference_figures"):
        bare.hypervolume()
    given = replace(bare, reference_figures=(("size_bytes", 10_000),))
    assert given.hypervolume() == pytest.approx(0.8)
    both = replace(given, reference_figures=(("accuracy", 0.5), ("size_bytes", 10_000)), teacher=TEACHER)
    assert both.hypervolume() == pytest.approx(0.4)


def test_history_equals_the_volume_of_each_beginning() -> None:
    random = np.random.default_rng(3)
    points = tuple(
        point(
            trial,
            float(accuracy) if trial % 9 else nan,
            latency_ms=2 * float(10**latency),
            size_bytes=int(10**size),
            feasible=trial % 7 != 0,
        )
        for trial, (accuracy, latency, size) in enumerate(random.random((60, 3)) * [1, -2, 5.5])
    )
    front = Front(objectives=THREE, classes=10, points=points, teacher=TEACHER)
    expected = [replace(front, points=points[: count + 1]).hypervolume() for count in range(len(points))]
    history = front.hypervolume_history(points)
    assert history == pytest.approx(np.array(expected))
    assert (np.diff(history) >= 0).all()
    assert 0 < history[-1] == pytest.approx(front.hypervolume())


def test_a_student_worse_than_the_teacher_in_two_figures_adds_nothing_to_the_history() -> None:
    # two wrong signs make a positive product
    points = (
        point(0, 0.99, latency_ms=2.0, size_bytes=200_000),
        point(1, 0.9, latency_ms=0.1, size_bytes=1000),
    )
    front = Front(objectives=THREE, classes=10, points=points, teacher=TEACHER)
    assert front.hypervolume_history(points) == pytest.approx(np.array([0, 1.6]))


def test_rows_are_the_members_then_the_teacher_with_every_searched_parameter() -> None:
    points = (
        point(0, 0.8, size_bytes=2000, model="trials/0/model.onnx", searched=(("bits", 8),)),
        point(1, 0.9, size_bytes=5000, epochs_spent=7, searched=(("width", 0.5), ("macs", "few"))),
        point(2, 0.1, size_bytes=9000, searched=(("depth", 3),)),  # dominated: no row, but its column
    )
    front = Front(objectives=ACCURACY_SIZE, classes=10, points=points, teacher=TEACHER)
    figures = ("trial", "accuracy", "latency_ms", "size_bytes", "parameters", "macs", "epochs_spent", "model")
    assert front.columns == (*figures, "number_format", "bits", "width", "searched_macs", "depth")
    rows = front.to_rows()
    assert all(tuple(row) == front.columns for row in rows)
    assert [tuple(row.values()) for row in rows] == [
        (1, 0.9, 0.1, 5000, 10, 20, 7, "", "", None, 0.5, "few", None),
        (0, 0.8, 0.1, 2000, 10, 20, None, "trials/0/model.onnx", "", 8, None, None, None),
        ("teacher", 0.95, 1.0, 100_000, 10, 20, None, "", "", None, None, None, None),
    ]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"objectives": ()}, "objectives must be one or more different figures, but got none"),
        ({"objectives": ACCURACY_SIZE[:1] * 2}, "but got accuracy, accuracy"),
        ({"classes": 1}, "classes >= 2 must hold, but got classes=1"),
        ({"reference_figures": (("sise_bytes", 1.0),)}, "did you mean 'size_bytes'"),
        (
            {"reference_figures": (("size_bytes", 0.0),)},
            "size_bytes > 0 must hold, but got size_bytes=0.0 as a reference figure",
        ),
    ],
)
def test_a_front_refuses_what_makes_no_sense(wrong: dict[str, object], message: str) -> None:
    values: dict[str, object] = {"objectives": ACCURACY_SIZE, "classes": 10, "points": ()} | wrong
    with pytest.raises(RequestError, match=message):
        Front(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "value"), [("accuracy", 1.2), ("accuracy", -0.1), ("latency_ms", 0.0), ("macs", -1)])
def test_a_point_refuses_impossible_figures(name: str, value: float) -> None:
    with pytest.raises(RequestError, match=rf"{name}.* must hold, but got {name}={value}"):
        replace(TEACHER, figures={**TEACHER.figures, name: value})


def test_front_imports_only_arrays() -> None:
    code = "import sys, nas_compress.runs.front; print(*sorted({n.split('.')[0] for n in sys.modules}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = run.stdout.split()
    assert "numpy" in loaded
    assert not {"torch", "onnx", "onnxruntime", "optuna", "pandas", "matplotlib"} & set(loaded)


# in a notebook


def test_a_front_is_a_dataframe_and_a_table() -> None:
    points = (point(0, 0.9, size_bytes=500, searched=(("family", "resnet"),)), point(1, 0.8, size_bytes=100))
    front = Front(objectives=ACCURACY_SIZE, points=points, classes=10, teacher=TEACHER)
    frame = front.to_dataframe()
    assert list(frame.columns) == list(front.columns)
    assert frame["trial"].tolist() == [0, 1, "teacher"]
    assert frame["accuracy"].tolist() == [0.9, 0.8, 0.95]
    assert front._repr_html_().count("<tr") == 4
    screen = StringIO()
    Console(file=screen, width=200).print(front)
    assert len([line for line in screen.getvalue().splitlines() if "0.8" in line and "100" in line]) == 1


def test_an_empty_front_has_its_columns_everywhere() -> None:
    empty = Front(objectives=THREE, points=(), classes=10)
    assert list(empty.to_dataframe().columns) == list(empty.columns)
    assert "latency_ms" in empty._repr_html_()
