"""Use of early exits on the validation split: agreement of file and module, rates, changed answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_compress.errors import ExportError, RequestError
from nas_compress.measurement.export_agreement import agreement_of_outputs, rounding_of, with_caution
from nas_compress.measurement.predictions import File, predict
from nas_compress.models.exits.network import EarlyExits
from nas_compress.models.exits.passes import exit_answers, exits_taken
from nas_compress.models.exits.thresholds import Chosen, choose_patience, choose_thresholds
from nas_compress.tasks.batch import Arrays, Batch, to_arrays, token_names
from nas_compress.tasks.export_tolerance import Agreement
from nas_compress.tasks.task import Task
from nas_compress.values.exits.figures import ExitFigures, OperatingPoint, expected
from nas_compress.values.exits.settings import EXIT, PATIENCE

LOSSES = (0.0, 0.0025, 0.005, 0.01, 0.02)
"""Stated losses of accuracy of the operating points in every record."""


def require_exits_task(task: Task) -> None:
    """Raise RequestError unless a task has one class per sample, because thresholds need right and wrong answers."""
    shapes = [spec.sample_shape for spec in task.signature.outputs]
    if task.classes is None or shapes != [(task.classes,)]:
        raise RequestError(f"exits need a task with one class per sample, but the task is {task.name}; leave them out")


class ExitAnswers:
    """Answers of every exit of a module to the validation samples.

    network: quantized, on the CPU. inputs, targets: of the split, on the CPU.
    """

    def __init__(self, network: EarlyExits, inputs: Batch, targets: Batch, task: Task) -> None:
        self._task, self._name = task, task.signature.output_names[0]
        (samples,) = inputs.values()
        tensors = exit_answers(network, samples, padded=bool(token_names(task.signature.inputs)))
        self.answers = [tensor.numpy() for tensor in tensors]
        self._confidence = [values.numpy() for values in network.confidences(tensors[:-1])]
        self._patient = network.exits.confidence == PATIENCE
        labels = task.labels(targets).numpy()
        self._right = [each.argmax(axis=1) == labels for each in self.answers]

    def choose(self, macs: tuple[int, ...], *, accuracy_loss: float) -> Chosen:
        """Return thresholds for a stated loss. macs: of each exit; their expected number is minimised."""
        choose = choose_patience if self._patient else choose_thresholds
        return choose(self._confidence, self._right, macs, accuracy_loss=accuracy_loss)

    def points(self, cost: ExitFigures) -> tuple[OperatingPoint, ...]:
        """Return the thresholds and figures of every stated loss in LOSSES."""
        found = [(loss, self.choose(cost.macs, accuracy_loss=loss)) for loss in LOSSES]
        return tuple(
            OperatingPoint(
                accuracy_loss=loss,
                thresholds=stored_thresholds(chosen.thresholds),
                accuracy=chosen.accuracy,
                rates=chosen.rates,
                latency_ms=expected(cost.latency_ms, chosen.rates),
            )
            for loss, chosen in found
        )


def check_exits(
    network: EarlyExits, path: Path, found: Arrays, inputs: Batch, task: Task, *, integer_caution: str = ""
) -> Agreement:
    """Compare exits and answers of a file with those of its module; ExportError for more than rounding explains.

    found: outputs of the file for the samples. integer_caution: see `check_agreement`.
    """
    (samples,) = inputs.values()
    answers, exits = exits_taken(network, samples, padded=bool(token_names(task.signature.inputs)))
    expected = to_arrays({task.signature.output_names[0]: answers, EXIT: exits})
    rounding = rounding_of(path)

    def compare(file: File) -> Agreement:
        return agreement_of_outputs(predict(file, to_arrays(inputs)), expected, task, rounding=rounding, name=path.name)

    try:
        return agreement_of_outputs(found, expected, task, rounding=rounding, name=path.name)
    except ExportError as error:
        raise with_caution(error, path, compare, integer_caution=integer_caution) from None


def exit_use(
    cost: ExitFigures, network: EarlyExits, found: Mapping[str, NDArray[Any]], answers: ExitAnswers
) -> ExitFigures:
    """Return the figures with the rates of a file on all validation samples, its thresholds and changed answers.

    cost: of the untrained file. found: outputs of the trained file.
    """
    name = next(each for each in found if each != EXIT)
    changed = found[name].argmax(axis=1) != answers.answers[-1].argmax(axis=1)
    return replace(
        cost,
        rates=exit_rates(found[EXIT], len(cost.macs)),
        thresholds=stored_thresholds(network.thresholds()),
        changed=float(changed.mean()),
        points=answers.points(cost),
    )


def exit_rates(taken: NDArray[Any], count: int) -> tuple[float, ...]:
    """Return the fraction of the samples per exit. taken: number of the exit of each sample. count: with the end.

    >>> exit_rates(np.array([0, 1, 1, 1]), 3)
    (0.25, 0.75, 0.0)
    """
    return tuple(float(share) for share in np.bincount(taken, minlength=count) / len(taken))


def stored_thresholds(thresholds: tuple[float, ...]) -> tuple[float | None, ...]:
    """Return thresholds for JSON: None instead of inf."""
    return tuple(float(each) if isfinite(each) else None for each in thresholds)
