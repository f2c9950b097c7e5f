"""Budgets against the teacher's figures: hand-worked limits, and one line for each mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas_compress.config.schema import StudySpec
from nas_compress.config.study_file import parse_spec, read_study
from nas_compress.errors import RequestError
from nas_compress.search.storage.optuna_storage import study_identity
from nas_compress.values.metrics.table import Budget

TEACHER = {"accuracy": 0.96, "latency_ms": 0.5, "size_bytes": 40_000.0, "mse": 2.0, "r2": 0.004}


def spec(**budgets: dict[str, float]) -> StudySpec:
    return parse_spec({"name": "mine", "space": "cnn", "data": {"name": "digits"}, "budgets": budgets}, "study.toml")


@pytest.mark.parametrize(
    ("name", "given", "limit", "text"),
    [
        ("accuracy", {"loss_at_most": 0.01}, 0.95, "accuracy >= 0.95 (0.01 below the teacher's 0.96)"),
        ("accuracy", {"fraction_at_least": 0.5}, 0.48, "accuracy >= 0.48 (0.5 times the teacher's 0.96)"),
        ("latency_ms", {"fraction_at_most": 0.5}, 0.25, "latency_ms <= 0.25 (0.5 times the teacher's 0.5)"),
        ("size_bytes", {"loss_at_most": 10.0}, 40_010.0, "size_bytes <= 40010 (10 above the teacher's 40000)"),
        ("mse", {"loss_at_most": 0.0}, 2.0, "mse <= 2 (0 above the teacher's 2)"),
        ("r2", {"loss_at_most": 0.01}, -0.006, "r2 >= -0.006 (0.01 below the teacher's 0.004)"),
        ("size_bytes", {"at_most": 9.0}, 9.0, "size_bytes <= 9"),
    ],
)
def test_a_limit_follows_from_the_teachers_figure(name: str, given: dict[str, float], limit: float, text: str) -> None:
    made = spec(**{name: given})
    (budget,) = made.budgets_against(TEACHER)
    assert (budget.name, str(budget)) == (name, text) and budget.limit == pytest.approx(limit)
    better, worse = (limit + 0.1, limit - 0.1) if budget.rule == "at_least" else (limit - 0.1, limit + 0.1)
    assert budget.violation(better) < 0 < budget.violation(worse)
    assert made.budgets_against(None) == (() if budget.relative else (budget,))
    assert budget.key == (f"{name} relative to the teacher" if budget.relative else str(budget))


def test_budgets_keep_the_order_of_the_file() -> None:
    made = spec(latency_ms={"fraction_at_most": 0.5}, size_bytes={"at_most": 9.0}, accuracy={"loss_at_most": 0.1})
    assert [budget.name for budget in made.budgets_against(TEACHER)] == ["latency_ms", "size_bytes", "accuracy"]
    assert made.budget_list == (Budget(name="size_bytes", limit=9.0),)


def test_a_study_from_before_keeps_its_identity() -> None:
    identity = study_identity(spec(size_bytes={"at_most": 9.0}), space_hash="s", data_fingerprint="d")
    assert identity["budgets"] == {"size_bytes": {"at_least": None, "at_most": 9.0}} and "metrics" not in identity


@pytest.mark.parametrize(
    ("budgets", "message"),
    [
        (
            "accuracy = { fraction_at_most = 0.9 }",
            "budgets.accuracy must have at_least (higher is better), but got {'fraction_at_most': 0.9}",
        ),
        ("latency_ms = { fraction_at_least = 1 }", "; limits against the teacher: loss_at_most, fraction_at_most"),
        ("latency_ms = { at_most = 1, loss_at_most = 2 }", "but got {'at_most': 1.0, 'loss_at_most': 2.0}"),
        ("latency_ms = {}", "but got nothing"),
        ("accuracy = { loss_at_most = 1 }", "budgets.accuracy.loss_at_most < 1 must hold (a fraction), but got 1"),
        ("accuracy = { loss_at_most = -0.1 }", "budgets.accuracy.loss_at_most: input should be greater than or equal"),
        (
            "latency_ms = { fraction_at_most = 0 }",
            "budgets.latency_ms.fraction_at_most: input should be greater than 0",
        ),
        ("latency_ms = { faction_at_most = 1 }", "did you mean 'fraction_at_most'?"),
    ],
)
def test_a_bad_spelling_is_one_line(tmp_path: Path, budgets: str, message: str) -> None:
    path = tmp_path / "study.toml"
    path.write_text(f'name = "mine"\nspace = "cnn"\n[data]\nname = "digits"\n[budgets]\n{budgets}\n')
    with pytest.raises(RequestError) as caught:
        read_study(path)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "given", "figures", "message"),
    [
        ("r2", {"fraction_at_least": 0.9}, {"r2": -0.1}, "a fraction needs a teacher's figure above 0, but got -0.1"),
        ("r2", {"loss_at_most": 0.9}, {}, "budgets.r2 needs the teacher's r2, but it was not measured"),
    ],
)
def test_a_teacher_without_a_fitting_figure_is_named(
    name: str, given: dict[str, float], figures: dict[str, float], message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        spec(**{name: given}).budgets_against(figures)
