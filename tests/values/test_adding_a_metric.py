"""A new row of METRICS is an objective, a budget, a column and an axis, without any other change."""

from __future__ import annotations

from dataclasses import replace
from math import log10
from pathlib import Path

import pytest

from nas_compress.config.schema import DataSection, StudySpec
from nas_compress.config.search_section import SearchSection
from nas_compress.plots.pareto import front_picture, pairs
from nas_compress.report.rows import table
from nas_compress.runs.front import Front
from nas_compress.runs.front_tables import write_front_csv
from nas_compress.runs.records import Record
from nas_compress.runs.results import make_front
from nas_compress.runs.selection import chosen_members
from nas_compress.search.listed_names import catalogue
from nas_compress.search.storage.optuna_trials import constraints, told_values
from nas_compress.search.trial_stopper import learned_objective
from nas_compress.tasks.classification import Classification
from nas_compress.values.candidate import Candidate
from nas_compress.values.metrics import table as metrics
from nas_compress.values.metrics.row import Metric
from nas_compress.values.metrics.table import METRICS, Budget, Objective, Reward, chance_levels
from nas_compress.values.outcome import Measured, Outcome

ROWS = (
    Metric(
        name="f1",
        summary="macro F1 on the validation split",
        direction="maximize",
        label="F1",
        axis_label="F1 (%)",
        notation="percent",
        bounds=(0.0, 1.0),
        chance=lambda classes: 1 / classes,
    ),
    Metric(
        name="error",
        summary="fraction of wrong samples",
        direction="minimize",
        label="error",
        axis_label="error (%)",
        notation="percent",
        bounds=(0.0, 1.0),
    ),
    Metric(
        name="charge_mc",
        summary="charge of one sample",
        direction="minimize",
        label="charge",
        axis_label="charge (mC)",
        notation="plain",
        unit="mC",
        digits=2,
        known_before_training=True,
    ),
)
TASK = Classification.of_images(shape=(1, 8, 8), classes=10)
COST = {"latency_ms": 0.5, "size_bytes": 1000, "parameters": 10, "macs": 20, "charge_mc": 1.5}


@pytest.fixture(autouse=True)
def _rows(monkeypatch: pytest.MonkeyPatch) -> None:
    for row in ROWS:
        monkeypatch.setitem(METRICS, row.name, row)  # type: ignore[arg-type]


def spec(**values: object) -> StudySpec:
    return StudySpec(name="mine", space="cnn", data=DataSection(name="digits"), **values)  # type: ignore[arg-type]


def record(trial: int, f1: float | None, charge: float) -> Record:
    figures = COST | {"charge_mc": charge} | ({} if f1 is None else {"f1": f1})
    measured = Measured(figures=figures, latency_spread=0.0, latency_noisy=False)
    state = "over_budget" if f1 is None else "trained"
    outcome = Outcome(candidate=Candidate(family="resnet", depths=(1,)), seed=0, state=state, measured=measured)
    return Record(trial=trial, params={}, outcome=outcome, finished_s=0.0, model="model.onnx")


STUDY = {"objectives": ("f1", "charge_mc"), "budgets": {"charge_mc": {"at_most": 2.0}, "f1": {"at_least": 0.5}}}
RECORDS = [record(0, 0.9, 1.5), record(1, 0.8, 0.5), record(2, 0.7, 1.0), record(3, None, 9.0)]


def study_front() -> Front:
    teacher = Measured(figures=COST | {"f1": 0.95}, latency_spread=0.0, latency_noisy=False)
    return make_front(spec(**STUDY), chance_levels(10), teacher, RECORDS)


def test_it_is_an_objective_and_a_budget_of_a_study() -> None:
    made = spec(**STUDY)
    assert made.directions == ("maximize", "minimize")
    assert [str(budget) for budget in made.budget_list] == ["charge_mc <= 2", "f1 >= 0.5"]
    with pytest.raises(ValueError, match=r"budgets\.f1\.at_least <= 1 must hold \(a fraction\), but got 90"):
        spec(objectives=("f1",), budgets={"f1": {"at_least": 90}})
    with pytest.raises(ValueError, match=r"budgets\.charge_mc must have at_most \(lower is better\)"):
        spec(budgets={"charge_mc": {"at_least": 90}})


def test_it_is_told_to_the_sampler_and_has_a_chance_level() -> None:
    made = spec(**STUDY)
    assert told_values(RECORDS[0].outcome, made, task=TASK) == [0.9, 1.5]
    assert told_values(RECORDS[3].outcome, made, task=TASK) == [0.1, 9.0]
    assert [excess > 0 for _, excess in constraints(RECORDS[3].outcome, made.budget_list, task=TASK)] == [True, True]
    assert learned_objective(made.objectives) == "f1"
    assert learned_objective(["accuracy", "f1"]) is learned_objective(["size_bytes"]) is None


def test_a_reward_takes_it_as_cost_or_as_quality() -> None:
    section = SearchSection.model_validate({"reward": {"kind": "hard", "figure": "charge_mc", "target": 3.0}})
    made = spec(objectives=("f1",), search=section)
    assert made.reward == Reward(kind="hard", figure="charge_mc", target=3.0, quality="f1")
    assert told_values(RECORDS[3].outcome, made, task=TASK) == [pytest.approx(0.1 / 3)]
    with pytest.raises(ValueError, match="the figure of a reward must be a known name, but got 'f1'"):
        spec(search=SearchSection.model_validate({"reward": {"figure": "f1", "target": 3.0}}))


def test_it_orders_the_front_and_counts_in_its_volume(tmp_path: Path) -> None:
    front = study_front()
    assert [point.trial for point in front.members] == [0, 1]
    assert front.reference == (("f1", 0.1), ("charge_mc", 1.5))
    assert front.hypervolume() == pytest.approx((0.8 - 0.1) * log10(3))
    assert chosen_members(front, best=["charge_mc"])[0].trial == 1
    assert [point.trial for point in chosen_members(front, where=["f1>=0.85"])] == [0]
    write_front_csv(front, tmp_path / "front.csv")
    header, first, *_ = (tmp_path / "front.csv").read_text().splitlines()
    assert header.startswith("trial,latency_ms,size_bytes,parameters,macs,f1,charge_mc,epochs_spent,model")
    assert first.startswith("0,0.5,1000,10,20,0.9,1.5,")


def test_it_is_an_axis_and_a_column_of_the_report() -> None:
    front = study_front()
    assert pairs(front) == [("charge_mc", "f1")]
    picture = front_picture(front, title="")
    axes = picture.figure.axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("← better   charge (mC)", "F1 (%)   better →")
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "linear")
    words = [text.get_text() for text in picture.figure.texts]
    assert any("1 of 4 trials ended before training and have no F1." in each for each in words)
    assert any("charge ≤ 2 mC, F1 ≥ 50 %" in each for each in words)
    columns, rows = table(RECORDS, front)
    assert [dict(zip(columns, row, strict=True))["charge_mc"] for row in rows] == [1.5, 0.5, 1.0, 9.0]


@pytest.mark.parametrize(
    "names", [("f1", "error"), ("error", "charge_mc"), ("f1", "samples_per_s"), ("samples_per_s", "charge_mc")]
)
def test_any_pair_of_directions_and_scales_is_drawn_within_its_axes(names: tuple[str, str]) -> None:
    figures = (
        {"f1": 0.9, "error": 0.0, "charge_mc": 2.0, "samples_per_s": 900.0},
        {"f1": 0.95, "error": 0.3, "charge_mc": 1.0, "samples_per_s": 20.0},
    )
    points = tuple(replace(point, figures=each) for point, each in zip(study_front().points, figures, strict=False))
    objectives = tuple(Objective(name=name) for name in names)
    drawn = Front(objectives=objectives, points=points, classes=10, budgets=(Budget(name="f1", limit=0.92),))
    axes = front_picture(drawn, title="").figure.axes[0]
    ((x, y),) = pairs(drawn)
    for name, (low, high) in ((x, axes.get_xlim()), (y, axes.get_ylim())):
        assert all(low < point.figure(name) < high for point in points)


def test_a_single_objective_to_be_minimised_on_a_linear_scale_is_drawn_over_its_trials() -> None:
    points = tuple(replace(point, figures={"error": 0.1 * number}) for number, point in enumerate(study_front().points))
    drawn = Front(objectives=(Objective(name="error"),), points=points, classes=10)
    axes = front_picture(drawn, title="").figure.axes[0]
    assert axes.get_ylabel() == "← better   error (%)" and axes.get_ylim()[0] < 0 < 0.3 < axes.get_ylim()[1]


def test_it_is_listed_and_shown() -> None:
    (row,) = [row for row in catalogue("metrics") if row["name"] == "charge_mc"]
    assert (row["direction"], row["budget"], row["known"]) == ("minimize", "at_most", "before training")
    assert metrics.in_words({"f1": 0.95, "charge_mc": 1.5}, METRICS) == "F1 95 %, charge 1.5 mC"
    assert METRICS["charge_mc"].cell(1.5) == "1.50"
