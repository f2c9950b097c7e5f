"""Check a study's space and budgets before training."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from pathlib import Path

import numpy as np
import torch

from nas_compress.config.search_space import Sampled, sample_space
from nas_compress.errors import RequestError
from nas_compress.export.sparse_encoding import mean_bits
from nas_compress.measurement.pipeline import Stopwatch, calibration_samples
from nas_compress.models.families import family_named
from nas_compress.models.shapes_only import shapes_only
from nas_compress.pruning.channel_groups import ChannelGroup
from nas_compress.pruning.importance_criteria import CRITERIA, rank_channels
from nas_compress.pruning.teacher_shape import TeacherShape
from nas_compress.search.setup import StudyParts, untrained_teacher
from nas_compress.teacher.obtain import teacher_architecture
from nas_compress.teacher.teacher import loss_samples
from nas_compress.trial.bit_allocation import plan_bits
from nas_compress.trial.cost_bounds import least_cost
from nas_compress.trial.kernel_choice import choose_kernels
from nas_compress.trial.peer_shape import peer_shape
from nas_compress.trial.shape import channel_step, is_pruned, shaped, with_points
from nas_compress.trial.train_student import learns_from_answers
from nas_compress.trial.validity import CandidateRules, require_layers
from nas_compress.values.architecture import Architecture
from nas_compress.values.candidate import PRUNED, Candidate
from nas_compress.values.metrics.table import Budget
from nas_compress.values.outcome import Measured

DRAWS = 400
"""Number of random candidates that represent a space."""


@dataclass(frozen=True, kw_only=True)
class Sized:
    """A candidate, its shape before the channel importance is known, its parameters and their approximate bytes.

    removes_nothing: True if its pruning_ratio leaves every width as it is without the ratio.
    """

    candidate: Candidate
    architecture: Architecture
    parameters: int
    weight_bytes: float
    params: Mapping[str, object] = field(default_factory=dict)
    removes_nothing: bool = False


def draw_candidates(parts: StudyParts) -> tuple[list[Sized], Sampled]:
    """Draw candidates from the space, smallest first. Raise RequestError if the space has an error."""
    sampled = sample_space(parts.space, draws=DRAWS, seed=parts.spec.seed)
    groups = _equal_groups(parts, sampled)
    rules = _candidate_rules(parts, groups)
    parameters: dict[Architecture, int] = {}
    sized = []
    for candidate, params in zip(sampled.candidates, sampled.params, strict=True):
        try:
            architecture = rules.require(candidate).architecture
        except RequestError as error:
            raise RequestError(f"space {parts.space.name}: {error}") from error
        if architecture not in parameters:
            with shapes_only():
                parameters[architecture] = sum(each.numel() for each in parts.build(architecture).parameters())
        bits = mean_bits(
            float(np.mean(candidate.precision.stage_widths)),
            zero_fraction=candidate.sparsity.fraction,
        )
        sized.append(
            Sized(
                candidate=candidate,
                architecture=architecture,
                parameters=parameters[architecture],
                weight_bytes=parameters[architecture] * bits / 8,
                params=params,
                removes_nothing=_removes_nothing(candidate, architecture, parts, groups),
            )
        )
    return sorted(sized, key=lambda item: item.weight_bytes), sampled


def reads_answers(parts: StudyParts) -> bool:
    """True if a candidate of the space learns from the teacher's stored logits."""
    sampled = sample_space(parts.space, draws=DRAWS, seed=parts.spec.seed)
    return any(map(learns_from_answers, sampled.candidates))


@dataclass(frozen=True, kw_only=True)
class Reach:
    """A budget known before training, and the best figure found for it.

    best: figure of an untrained file. least: best possible figure after training.
    """

    budget: Budget
    best: float
    least: float

    @property
    def met(self) -> bool:
        """True if some candidate keeps the budget before training."""
        return self.budget.violation(self.best) <= 0

    @property
    def possible(self) -> bool:
        """True if some candidate may keep the budget after training."""
        return self.budget.violation(self.least) <= 0


def within_reach(parts: StudyParts, sized: list[Sized]) -> tuple[Reach, ...]:
    """Return each budget known before training with the best figure of the smallest candidates.

    A budget on a lost device is left out.
    """
    budgets = [budget for budget in parts.budgets if budget.metric.known_before_training]
    found, least = [], []
    for item in extremes(sized) if budgets else ():
        figures = measure_untrained(item.candidate, item.architecture, parts)
        found.append(figures)
        least.append(least_cost(figures, parts.spec.file_name, zero_pattern=item.candidate.sparsity.pattern))
    known = [budget for budget in budgets if not any(figures.lacks(budget.name) for figures in found)]
    return tuple(Reach(budget=budget, best=_best(found, budget), least=_best(least, budget)) for budget in known)


def refuse_out_of_reach(parts: StudyParts, reaches: Sequence[Reach]) -> None:
    """Raise RequestError for the first budget out of reach of all candidates."""
    for reach in reaches:
        if not reach.possible:
            name = reach.budget.name
            words = "" if reach.least == reach.best else f"; training may reduce it to {reach.least:.4g}"
            raise RequestError(
                f"a budget must be within reach of the space, but {parts.file.label}: budgets.{name} is "
                f"{reach.budget.rule} {reach.budget.limit:g} and the smallest candidate of {parts.space.name} has "
                f"{reach.best:.4g}{words}"
            )


def extremes(sized: Sequence[Sized]) -> list[Sized]:
    """Return for each precision the candidates with the fewest bytes, parameters and operations.

    Often they are the same candidate. The first may have more parameters and more zeros, the last a first layer with a
    larger stride or larger patches.
    """
    chosen: list[Sized] = []
    for cost in (attrgetter("weight_bytes"), attrgetter("parameters"), _least_to_compute):
        best: dict[tuple[int, int], Sized] = {}
        for item in sorted(sized, key=cost):
            best.setdefault((item.candidate.precision.weight_bits, item.candidate.precision.activation_bits), item)
        chosen += [item for item in best.values() if not any(item is other for other in chosen)]
    return chosen


def _least_to_compute(item: Sized) -> tuple[int, int]:
    shape = item.architecture
    reduction = 1 if shape.family == PRUNED else family_named(shape.family).reduction(shape.settings)
    return -reduction, item.parameters


def measure_untrained(candidate: Candidate, architecture: Architecture, parts: StudyParts) -> Measured:
    """Export and measure a candidate with fresh weights in a temporary folder."""
    data = parts.dataset.at(candidate.data_size)
    samples = calibration_samples(data.train)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(parts.spec.seed)
        network = with_points(parts.build(architecture), candidate, data.example)
    with tempfile.TemporaryDirectory(prefix="nas_compress_") as folder:
        form = choose_kernels(
            candidate,
            network,
            Path(folder),
            name=parts.spec.file_name,
            layer_bits=plan_bits(candidate, network, (), samples=samples),
            signature=data.task.signature,
            calibration=samples,
            target=parts.target,
            named=parts.named,
            watch=Stopwatch(),
        )
    return form.cost


def _best(measured: Sequence[Measured], budget: Budget) -> float:
    best = max if budget.rule == "at_least" else min
    return best(figures.figure(budget.name) for figures in measured)


def _equal_groups(parts: StudyParts, sampled: Sampled) -> tuple[ChannelGroup, ...]:
    """Return the untrained teacher's channel groups with equal importance.

    RequestError is raised if a criterion of the space does not work with the teacher.
    """
    pruned = [item for item in sampled.candidates if is_pruned(item)]
    criteria = {item.pruning.criterion for item in pruned} & set(CRITERIA)
    if not criteria:
        return ()
    for candidate in pruned:
        require_layers(candidate, parts.spec.teacher, where=f"space {parts.space.name}: ")
    network, dataset = untrained_teacher(parts), parts.dataset
    samples = loss_samples(dataset.train.labelled(dataset.task), dataset.task, batches=1)
    whole = {layer for group in parts.whole_layers for layer in group.layers}
    for criterion in sorted(criteria - {"uniform"}):
        try:
            rank_channels(network, dataset.example, criterion=criterion, seed=0, samples=samples, whole=whole)
        except RequestError as error:
            raise RequestError(f"space {parts.space.name}: {error}") from error
    return rank_channels(network, dataset.example, criterion="uniform", seed=0, whole=whole)


def _removes_nothing(
    candidate: Candidate, architecture: Architecture, parts: StudyParts, groups: tuple[ChannelGroup, ...]
) -> bool:
    if candidate.pruning.ratio == 0:
        return False
    without = replace(candidate, pruning=replace(candidate.pruning, ratio=0.0))
    uncut = _shape(without, parts, groups)
    return [width.channels for width in uncut.widths] == [width.channels for width in architecture.widths]


def _candidate_rules(parts: StudyParts, groups: tuple[ChannelGroup, ...]) -> CandidateRules:
    """Return the rules of the study before its teacher is trained."""

    def shape(candidate: Candidate) -> Architecture:
        return _shape(candidate, parts, groups)

    return CandidateRules(
        dataset=parts.dataset,
        batch_size=parts.spec.training.batch_size,
        teacher=parts.spec.teacher,
        label=parts.file.label,
        own_network=lambda: untrained_teacher(parts),
        build=parts.build,
        shape=shape,
        peer_shape=lambda candidate: peer_shape(candidate, parts.target, shape),
        samples_per_run=parts.target.settings.batch,
        epochs=parts.spec.training.epochs,
    )


def _shape(candidate: Candidate, parts: StudyParts, groups: tuple[ChannelGroup, ...]) -> Architecture:
    return shaped(
        candidate,
        parts.dataset,
        step=channel_step(candidate, parts.target),
        groups=groups if is_pruned(candidate) else (),
        teacher=_teacher_shape(parts),
    )


def _teacher_shape(parts: StudyParts) -> TeacherShape:
    section = parts.spec.teacher
    if not section.is_trained:
        return TeacherShape(family=None, widths=(), depths=())
    shape = teacher_architecture(section, parts.dataset, parts.file.label)
    family = family_named(section.family)
    return TeacherShape(
        family=section.family,
        widths=section.widths or family.base_widths,
        depths=shape.depths,
        heads=family.heads(section.settings),
        settings=section.settings,
    )
