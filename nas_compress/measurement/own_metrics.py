"""Metrics by functions of the user: load them, and check them on the teacher's answers."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from nas_compress.config.own_metrics import MetricSection
from nas_compress.data.dataset import Split
from nas_compress.errors import MetricError, RequestError, require_known
from nas_compress.tasks.batch import Arrays, named_outputs, split, to_arrays
from nas_compress.tasks.classification import Classification
from nas_compress.tasks.own_metrics import OwnScore, WithOwnMetrics, own_figure
from nas_compress.tasks.scores import f1_of_class, recall_of_class
from nas_compress.tasks.task import Task
from nas_compress.user_code import user_callable

BATCH = 256
"""Samples per forward pass."""


@dataclass(frozen=True, kw_only=True)
class UserScore:
    """A function of the user, named `module:callable`.

    folder: first place of the search for its module. where: file and key, for errors.
    """

    reference: str
    folder: Path
    where: str

    def __call__(self, answers: Any, targets: Any) -> object:
        """Return the value of the function."""
        # its module may import others of its folder on a call
        with user_callable(self.reference, folder=self.folder, where=self.where, role="function") as function:
            return function(answers, targets)

    def load(self) -> None:
        """Import the module; RequestError if it has no such function."""
        with user_callable(self.reference, folder=self.folder, where=self.where, role="function"):
            pass


def with_own_metrics(task: Task, sections: Mapping[str, MetricSection], *, folder: Path, label: str) -> Task:
    """Return the task with the metrics of a study file; the task itself if there are none.

    RequestError if a function cannot be imported, or a class is unknown. label: name of the study file.
    """
    if not sections:
        return task
    scores: dict[str, OwnScore] = {}
    for name, section in sections.items():
        where = f"{label}: metrics.{name}"
        if section.function is not None:
            score = UserScore(reference=section.function, folder=folder, where=f"{where}.function")
            score.load()
            scores[name] = score
        elif section.of_class is not None:
            scores[name] = _score_of_class(*section.of_class, task, where=where)
    levels = {name: section.chance for name, section in sections.items() if section.chance is not None}
    return WithOwnMetrics(task=task, scores=scores, levels=levels)


def _score_of_class(kind: str, name: str, task: Task, *, where: str) -> OwnScore:
    if not isinstance(task, Classification):
        raise RequestError(f"{where} needs a task with one class for each sample, but the task is {task.name}")
    names = list(task.class_names) or [str(number) for number in range(task.classes)]
    require_known("a class", name, names, where)
    return functools.partial(recall_of_class if kind == "recall" else f1_of_class, label=names.index(name))


def require_sound_metrics(network: nn.Module, samples: Split, task: Task, *, label: str) -> None:
    """Raise RequestError unless the user's metrics are finite, repeatable and without effect on their arguments.

    network: the teacher. samples: on its device; every metric sees all its answers.
    """
    if not isinstance(task, WithOwnMetrics):
        return
    network.eval()
    names = task.signature.output_names
    with torch.inference_mode():
        parts = [
            task.compact(to_arrays(named_outputs(network(*batch.values()), names)))
            for batch in split(samples.inputs, BATCH)
        ]
    outputs = {name: np.concatenate([part[name] for part in parts]) for name in names}
    targets = to_arrays(samples.targets)
    for name, score in task.scores.items():
        where = f"{label}: metrics.{name}"
        given = copy.deepcopy((outputs, targets))
        try:
            first, second = own_figure(name, score, *given), own_figure(name, score, *given)
        except MetricError as error:
            raise RequestError(f"{where}: on the teacher's answers, {error}") from error
        if not (_same(given[0], outputs) and _same(given[1], targets)):
            raise RequestError(
                f"{where}: a metric must not change its arguments, but it wrote to them; copy them first"
            )
        if first != second:
            raise RequestError(
                f"{where}: a metric must be the same for the same answers, but got {first!r} and then {second!r}; "
                "draw no random numbers, or seed them"
            )


def _same(found: Arrays, expected: Arrays) -> bool:
    return all(
        np.array_equal(found[name], values, equal_nan=values.dtype.kind == "f") for name, values in expected.items()
    )
