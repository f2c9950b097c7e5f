"""Weighted sum of loss terms, with weights that may change over a training."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas_compress.errors import RequestError
from nas_compress.losses.layer_matching import stages
from nas_compress.losses.several_tasks import on_each_task
from nas_compress.losses.table import TERMS, check_terms
from nas_compress.losses.term_kinds import FeatureLoss, FeatureTerm, LogitTerm, TaskTerm, Term, complete_settings
from nas_compress.losses.weight_schedule import Factor, Scheduled, schedule_weights
from nas_compress.models.features import Observation
from nas_compress.tasks.batch import Batch
from nas_compress.tasks.own_metrics import WithOwnMetrics
from nas_compress.tasks.several import SeveralTasks
from nas_compress.tasks.task import Task, weight_of
from nas_compress.values.candidate import LossTerm

_Part = Callable[[Observation, Batch, Observation, Tensor], Tensor]
"""(student, targets, teacher, the teacher's logits) to a scalar; terms on targets ignore the teacher."""


class TrainingLoss(nn.Module):
    """Terms by name, each times its weight; their sum is minimised.

    task: outputs, targets and base loss.
    student, teacher: observations of any batch; adaptation layers are made for their shapes. Only terms on features
    need them.
    annealing, soft_stop: see `schedule_weights`.
    RequestError for an unknown term or setting, and if an observation lacks the features of a term.
    """

    def __init__(
        self,
        task: Task,
        terms: Sequence[LossTerm],
        *,
        student: Observation | None = None,
        teacher: Observation | None = None,
        annealing: bool = False,
        soft_stop: float = 1.0,
    ) -> None:
        super().__init__()
        check_terms(terms)
        _require_classes(terms, task)
        self.task = task
        self._weights = {term.name: term.weight for term in terms}
        settings = {term.name: complete_settings(term.name, TERMS[term.name], dict(term.settings)) for term in terms}
        self._taught = [name for name in self._weights if TERMS[name].needs_teacher]
        self._factors = schedule_weights(
            {name: _scheduled(TERMS[name], chosen) for name, chosen in settings.items()},
            annealing=annealing,
            soft_stop=soft_stop,
        )
        self._constant = not any(self._factors.values())
        self.adapters = nn.ModuleDict()
        self._parts: dict[str, _Part] = {}
        shared = _both_kinds(terms)
        for name, chosen in settings.items():
            term = TERMS[name]
            if isinstance(term, FeatureTerm):
                self.adapters[name] = _feature_loss(name, term, chosen, student, teacher)
                self._parts[name] = _on_features(self.adapters[name])
            elif isinstance(term, TaskTerm):
                self._parts[name] = _on_task(task, term, shared=shared)
            else:
                self._parts[name] = _on_tasks(task, term, chosen, shared=shared)
        self._live = {*self.adapters, *(name for name in self._taught if isinstance(TERMS[name], TaskTerm))}
        self.reads_logits = any(isinstance(TERMS[name], LogitTerm) for name in self._taught)
        """True if a term reads the teacher's logits."""

    def active(self, progress: float) -> dict[str, float]:
        """Return the weights other than 0. progress: fraction of the planned steps done."""
        if self._constant:
            return self._weights
        weights = {name: weight * _product(self._factors[name], progress) for name, weight in self._weights.items()}
        return {name: weight for name, weight in weights.items() if weight}

    def reads_features(self, progress: float) -> bool:
        """True if an active term reads features or outputs of the teacher itself."""
        return any(name in self._live for name in self.active(progress))

    @property
    def reads_outputs(self) -> bool:
        """True if a term reads outputs of the teacher itself, at any time."""
        return any(name not in self.adapters for name in self._live)

    @property
    def teacher_features(self) -> tuple[str, ...]:
        """Names of the teacher's features that the terms read at any time."""
        return tuple(dict.fromkeys(name for loss in self._feature_losses for name in loss.of_teacher))

    @property
    def teacher_relations(self) -> tuple[str, ...]:
        """Names of the teacher's layers whose relations the terms read at any time."""
        return tuple(dict.fromkeys(name for loss in self._feature_losses for name in loss.relations_of_teacher))

    @property
    def _feature_losses(self) -> list[FeatureLoss]:
        return [loss for loss in self.adapters.values() if isinstance(loss, FeatureLoss)]

    def reads_relations(self, progress: float) -> bool:
        """True if an active term reads relations between tokens."""
        return bool(self.adapters) and any(TERMS[name].needs == "relations" for name in self.active(progress))

    def forward(
        self,
        student: Observation,
        targets: Batch,
        teacher: Observation | None = None,
        *,
        answers: Tensor | None = None,
        progress: float = 0.0,
    ) -> dict[str, Tensor]:
        """Return every term by name, times its weight; 0 for an inactive term.

        teacher: observation of the same batch. answers: the teacher's logits (B, C), or (B, members, C) of an ensemble;
        if None, those of the observation. No term may depend on a constant added to a row of them.
        """
        weights = self.active(progress)
        taught = [name for name in self._taught if name in weights]
        if taught and teacher is None and answers is None:
            raise RequestError(f"{', '.join(taught)} needs a teacher's answers or features, but got none")
        # placeholders: without a teacher only targets are read
        guide = student if teacher is None else teacher
        empty = next(iter(student.outputs.values()))
        if answers is None:
            answers = self.task.logits(guide.outputs) if self.reads_logits else empty
        values = {}
        for name, part in self._parts.items():
            weight = weights.get(name, 0.0)
            value = part(student, targets, guide, answers) if weight else empty.new_zeros((), dtype=torch.float32)
            values[name] = value if weight in (0, 1) else value * weight
        return values


def _require_classes(terms: Sequence[LossTerm], task: Task) -> None:
    for term in terms:
        if task.row_classes is None and isinstance(TERMS[term.name], LogitTerm):
            raise RequestError(
                f"loss {term.name!r} needs a task with classes, but {task.name} has none; use task_loss or a loss on "
                "features"
            )
        row = TERMS[term.name]
        if task.class_weights and isinstance(row, LogitTerm) and not (row.needs_teacher or row.weighted):
            known = [name for name, each in TERMS.items() if isinstance(each, LogitTerm) and each.weighted]
            rule = f"training.class_weight needs losses on labels that take weights ({', '.join(known)}, task_loss)"
            raise RequestError(f"{rule}, but got {term.name!r}")
        if isinstance(row, TaskTerm) and row.on_teacher and not task.learns_from_outputs:
            raise RequestError(f"loss {term.name!r} needs a regression, but the task is {task.name}; use kd")


def _scheduled(term: Term, settings: Mapping[str, float]) -> Scheduled:
    rule = term.weight_schedule
    value = 0.0 if rule is None else settings[rule.setting]
    begin, end = settings.get("begin", 0.0), settings.get("end", 1.0)
    return Scheduled(on_teacher=term.needs_teacher, schedule=rule, value=value, begin=begin, end=end)


def _feature_loss(
    name: str,
    term: FeatureTerm,
    settings: Mapping[str, float],
    student: Observation | None,
    teacher: Observation | None,
) -> FeatureLoss:
    return term.build(
        settings, _require_features(name, term, student, "student"), _require_features(name, term, teacher, "teacher")
    )


def _require_features(name: str, term: FeatureTerm, seen: Observation | None, role: str) -> Observation:
    if seen is None or not _has_features(seen, term.needs):
        bare = seen is not None and not seen.features
        found = "has logits only; teacher.features names modules of a teacher of your own" if bare else "has none"
        raise RequestError(f"loss {name!r} needs a {role} with {_WORDS[term.needs]}, but it {found}")
    return seen


_WORDS = {
    "features": "named features",
    "maps": "feature maps, as convolutional families have",
    "tokens": "tokens, as transformers have",
    "relations": "attention layers, as transformers have",
}


def _has_features(seen: Observation, needs: str) -> bool:
    if needs == "relations":
        return bool(seen.relations)
    dimensions = {"features": (2, 3, 4), "maps": (4,), "tokens": (3,)}[needs]
    return bool(stages(seen.features)) and all(feature.ndim in dimensions for feature in seen.features.values())


def _both_kinds(terms: Sequence[LossTerm]) -> bool:
    """True if some terms of outputs read targets and some the teacher."""
    on_outputs = [term for term in (TERMS[each.name] for each in terms) if isinstance(term, (LogitTerm, TaskTerm))]
    kinds = {term.needs_teacher for term in on_outputs}
    return len(kinds) == 2


def _on_features(loss: nn.Module) -> _Part:
    return lambda student, targets, teacher, answers: loss(student, teacher)


def _on_task(task: Task, term: TaskTerm, *, shared: bool) -> _Part:
    """Bind the task's loss to the outputs that it trains; see `_on_logits`."""
    if term.on_teacher:
        return lambda student, targets, teacher, answers: task.base_loss(
            student.for_teacher if shared else student.outputs, task.as_targets(teacher.outputs)
        )
    if shared:
        return lambda student, targets, teacher, answers: task.base_loss(student.for_labels, targets)
    return lambda student, targets, teacher, answers: task.base_loss(student.outputs, targets)


def _on_tasks(task: Task, term: LogitTerm, settings: Mapping[str, float], *, shared: bool) -> _Part:
    """Bind a term to the logits of a task, or of each of several tasks."""
    if isinstance(task, WithOwnMetrics):
        task = task.task
    if isinstance(task, SeveralTasks):
        return on_each_task(task, term, lambda each: _on_logits(each, term, settings, shared=shared), shared=shared)
    return _on_logits(task, term, settings, shared=shared)


def _on_logits(task: Task, term: LogitTerm, settings: Mapping[str, float], *, shared: bool) -> _Part:
    """Bind a term to the logits that it trains.

    shared: there are terms on targets and terms on the teacher. Then a second head, if the student has one, learns from
    the teacher and the first head from targets. Otherwise the mean of the two heads is trained.
    """
    function, temperature = term.bind(settings), settings.get("temperature", 1.0)
    reads_labels = "labels" in term.targets
    weights = task.class_weights if term.weighted else ()

    def part(student: Observation, targets: Batch, teacher: Observation, answers: Tensor) -> Tensor:
        outputs = student.outputs
        if shared:
            outputs = student.for_teacher if term.needs_teacher else student.for_labels
        logits = task.logits(outputs)
        guide = answers
        if term.needs_teacher and answers.ndim > logits.ndim:
            guide = one_answer(answers, temperature)
        # every row is a sample of its own: a label of many, or a position
        rows, guide = logits.flatten(0, -2), guide.flatten(0, -2) if term.needs_teacher else guide
        if not reads_labels:
            return function(rows, answers, guide)
        labels = _label_rows(task.labels(targets))
        if task.lacks_labels:
            known = labels >= 0
            rows, labels, guide = rows[known], labels[known], guide[known] if term.needs_teacher else guide
            if not len(labels):
                return logits.sum() * 0.0
        if weights:
            return term.function(rows, labels, weight=weight_of(weights, rows), **term.own_settings(settings))
        return function(rows, labels, guide)

    return part


def _label_rows(labels: Tensor) -> Tensor:
    """Labels (B, ...) as one row, or soft labels (B, ..., C) as rows."""
    return labels.flatten(0, -2) if labels.is_floating_point() else labels.flatten()


def one_answer(logits: Tensor, temperature: float) -> Tensor:
    """Reduce an ensemble's logits (B, members, ..., C) to (B, ..., C) with the mean of their softened probabilities.

    Mean of probabilities: Hinton et al. 2015, arXiv 1503.02531.
    """
    each = F.log_softmax(logits.detach().float() / temperature, dim=-1)
    return (each.logsumexp(dim=1) - math.log(logits.shape[1])) * temperature


def _product(factors: list[Factor], progress: float) -> float:
    return functools.reduce(lambda product, factor: product * factor(progress), factors, 1.0)
