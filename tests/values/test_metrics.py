import math

import pytest

from nas_compress.errors import RequestError
from nas_compress.values.metrics.table import METRICS, Budget, Objective
from nas_compress.values.outcome import Measured


@pytest.mark.parametrize("name", METRICS)
def test_better_costs_less(name: str) -> None:
    objective = Objective(name=name)
    better, worse = (2.0, 1.0) if objective.direction == "maximize" else (1.0, 2.0)
    assert objective.cost(better) < objective.cost(worse)


@pytest.mark.parametrize("name", METRICS)
def test_a_budget_is_kept_at_its_limit_and_broken_beyond(name: str) -> None:
    budget = Budget(name=name, limit=50.0)
    sign = 1 if budget.rule == "at_most" else -1
    assert budget.violation(50.0) == 0
    assert budget.violation(50.0 + sign * 5) == pytest.approx(0.1)
    assert budget.violation(50.0 - sign * 5) == pytest.approx(-0.1)
    assert budget.rule == {"maximize": "at_least", "minimize": "at_most"}[METRICS[name].direction]


@pytest.mark.parametrize("name", METRICS)
def test_every_objective_is_a_figure_that_can_be_measured(name: str) -> None:
    figures = {metric: float(number) for number, metric in enumerate(METRICS, 1)}
    measured = Measured(figures=figures, latency_spread=0.0, latency_noisy=False)
    assert measured.figure(name) == figures[name]


def test_budgets_read_as_rules() -> None:
    assert str(Budget(name="size_bytes", limit=64_000)) == "size_bytes <= 64000"
    assert str(Budget(name="accuracy", limit=0.9)) == "accuracy >= 0.9"


@pytest.mark.parametrize("limit", [0, -1, math.nan])
def test_a_budget_of_nothing_is_refused(limit: float) -> None:
    with pytest.raises(RequestError, match="a budget must be greater than 0, but got macs="):
        Budget(name="macs", limit=limit)


def test_the_nearest_figure_is_named() -> None:
    with pytest.raises(RequestError, match=r"an objective must be a known name, but got 'latency'.*'latency_ms'\?"):
        Objective(name="latency")
    with pytest.raises(RequestError, match=r"a budget must be a known name, but got 'size'.*'size_bytes'\?"):
        Budget(name="size", limit=1)
