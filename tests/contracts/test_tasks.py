"""What every task of the table promises. Its right answers are found by descending its loss."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas_compress.errors import ExportError
from nas_compress.tasks.batch import require_fitting, to_arrays
from nas_compress.tasks.export_tolerance import Rounding
from nas_compress.tasks.table import TASKS
from nas_compress.tasks.task import Task, task_chance
from nas_compress.values.metrics.multi_task import task_rows
from nas_compress.values.metrics.table import METRICS
from nas_compress.values.signature import TensorSpec

SAMPLES = 64
ROUNDINGS: tuple[Rounding, ...] = ("none", "integers", "few_bits")


@pytest.fixture(autouse=True, scope="module")
def _metrics_of_several_tasks() -> Iterator[None]:
    """A study with [tasks.NAME] declares the rows of its tasks."""
    with pytest.MonkeyPatch.context() as patch:
        for row in task_rows(["kind", "odd", "size"]):
            patch.setitem(METRICS, row.name, row)  # type: ignore[arg-type]
        yield


every_task = pytest.mark.parametrize("name", TASKS)


def task_of(name: str) -> Task:
    return TASKS[name].example


def drawn(specs: tuple[TensorSpec, ...], classes: int | None, seed: int) -> dict[str, Tensor]:
    """Random tensors of these specs; whole numbers lie below the number of classes."""
    chance = torch.Generator().manual_seed(seed)
    made = {}
    for spec in specs:
        shape, kind = (
            [SAMPLES, *(s if isinstance(s, int) else 3 for s in spec.sample_shape)],
            getattr(torch, spec.dtype),
        )
        values = torch.randn(shape, generator=chance)
        made[spec.name] = (
            values if kind.is_floating_point else torch.randint(classes or 2, shape, generator=chance)
        ).to(kind)
    return made


def outputs_of(task: Task, seed: int = 0) -> dict[str, Tensor]:
    return drawn(task.signature.outputs, None, seed)


def targets_of(task: Task) -> dict[str, Tensor]:
    made = drawn(task.targets, task.classes, 7)
    if task.classes is None and task.row_classes == 2:
        return {name: (values > 0).to(values.dtype) for name, values in made.items()}
    return made


@functools.cache
def answers(name: str) -> tuple[Mapping[str, Tensor], list[float]]:
    """Outputs that descend the base loss from a random start, and the loss at each step."""
    task = task_of(name)
    outputs = {each: value.requires_grad_() for each, value in outputs_of(task).items()}
    optimiser, losses = torch.optim.Adam(outputs.values(), lr=0.3), list[float]()
    for _ in range(300):
        optimiser.zero_grad()
        loss = task.base_loss(outputs, targets_of(task))
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return {each: value.detach() for each, value in outputs.items()}, losses


def measured(task: Task, outputs: Mapping[str, Tensor]) -> dict[str, float]:
    return task.measure(to_arrays(outputs), to_arrays(targets_of(task)))


@every_task
def test_its_tensors_have_names_of_their_own_and_fit_their_specs(name: str) -> None:
    task = task_of(name)
    specs = (*task.signature.inputs, *task.signature.outputs, *task.targets)
    fresh = [spec for spec in task.targets if spec not in task.signature.outputs]
    assert task.name == name and len({spec.name for spec in specs}) >= len(task.signature.inputs) + len(fresh)
    require_fitting(outputs_of(task), task.signature.outputs)
    require_fitting(targets_of(task), task.targets)
    assert task.classes is None or task.classes >= 2


@every_task
def test_its_base_loss_is_a_mean_with_finite_gradients(name: str) -> None:
    task = task_of(name)
    for scale in (1.0, 100.0):
        outputs = {each: (scale * value).requires_grad_() for each, value in outputs_of(task).items()}
        loss = task.base_loss(outputs, targets_of(task))
        assert loss.shape == () and loss.dtype == torch.float32 and bool(torch.isfinite(loss))
        loss.backward()
        for value in outputs.values():
            assert value.grad is not None and bool(torch.isfinite(value.grad).all()) and bool(value.grad.any())
    twice = [
        {each: torch.cat([value, value]) for each, value in b.items()} for b in (outputs_of(task), targets_of(task))
    ]
    torch.testing.assert_close(task.base_loss(*twice), task.base_loss(outputs_of(task), targets_of(task)))


@every_task
def test_its_base_loss_falls_to_its_least_value_at_right_answers(name: str) -> None:
    losses = answers(name)[1]
    assert min(losses) >= 0 and losses[-1] < 0.02 * losses[0]


@every_task
def test_its_metrics_are_rows_of_the_table_and_best_at_right_answers(name: str) -> None:
    task = task_of(name)
    assert task.metrics and set(task.metrics) <= set(METRICS)
    assert not any(METRICS[metric].known_before_training for metric in task.metrics)
    right, wrong = measured(task, answers(name)[0]), measured(task, outputs_of(task))
    assert list(right) == list(task.metrics)
    for metric, value in right.items():
        row = METRICS[metric]
        row.require(value)
        row.require(wrong[metric])
        best = row.bounds[1] if row.direction == "maximize" else row.bounds[0]
        assert value == pytest.approx(best, abs=0.02)
        assert (value > wrong[metric]) == (row.direction == "maximize")


@every_task
def test_a_chance_level_is_a_figure_of_the_metric_between_guess_and_best(name: str) -> None:
    task = task_of(name)
    for metric, level in task_chance(task).items():
        METRICS[metric].require(level)
        assert level != pytest.approx(measured(task, answers(name)[0])[metric])
    assert all(task.chance(metric) is None for metric, row in METRICS.items() if row.known_before_training)


def arrays(outputs: Mapping[str, Tensor]) -> dict[str, NDArray[np.generic]]:
    return dict(to_arrays(outputs))


@every_task
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_equal_outputs_agree_and_others_are_refused_by_the_name_of_the_file(name: str, rounding: Rounding) -> None:
    task = task_of(name)
    expected = arrays(outputs_of(task))
    equal = task.agreement(arrays(outputs_of(task)), expected, rounding=rounding, name="m.onnx")
    assert (equal.agreement, equal.max_difference) == (1.0, 0.0)
    for wrong in (lambda values: -values, lambda values: np.roll(values, 1, axis=0), lambda values: values * np.nan):
        with pytest.raises(ExportError, match=r"must hold.*\(m.onnx\)") as caught:
            task.agreement({n: wrong(v) for n, v in expected.items()}, expected, rounding=rounding, name="m.onnx")
        assert "\n" not in str(caught.value)
