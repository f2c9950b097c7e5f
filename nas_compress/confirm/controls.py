"""Controls: candidates to compare a member with, trained at the same budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from nas_compress.errors import RequestError
from nas_compress.losses.table import TASK_LOSS
from nas_compress.trial.context import TrialContext
from nas_compress.trial.shape import channel_step, student_architecture
from nas_compress.trial.uniform_width_control import uniform_control
from nas_compress.values.candidate import Candidate, Precision, Sparsity, Teaching, cross_entropy


@dataclass(frozen=True, kw_only=True)
class Control:
    """One control.

    make: returns the candidate to train instead of a member's candidate; RequestError if this member has no such
    control.
    """

    summary: str
    make: Callable[[Candidate, TrialContext, int], Candidate]


def without_teacher(candidate: Candidate, context: TrialContext, seed: int) -> Candidate:
    """The same network trained on labels alone, without a distillation token. Shows the gain by the teacher.

    Cuts in steps become one, because terms on the teacher hold the network near it between them. A task-agnostic
    student that inherits gets fresh weights: those of the study's teacher have learned labels, unlike its own.
    """
    settings, pruning = candidate.shape.settings, replace(candidate.pruning, rounds=1)
    if candidate.teaching.teacher == "task_agnostic" and pruning.init == "inherit":
        settings = student_architecture(candidate, context, seed=seed).settings
        pruning = replace(pruning, init="scratch")
    shape = replace(candidate.shape, settings=settings.without_teacher())
    losses = TASK_LOSS if context.dataset.task.row_classes is None else cross_entropy()
    return replace(candidate, shape=shape, pruning=pruning, losses=losses, teaching=Teaching())


def uniform_width(candidate: Candidate, context: TrialContext, seed: int) -> Candidate:
    """The unpruned family, uniformly thinner to the same size. Shows the gain by the pruned shape."""
    return uniform_control(candidate, context, seed=seed)


def inherit(candidate: Candidate, context: TrialContext, seed: int) -> Candidate:
    """The same shape, starting from the teacher's kept weights. Shows the effect of training from scratch."""
    fine_tuned = replace(candidate, pruning=replace(candidate.pruning, init="inherit"))
    own, inherited = (student_architecture(each, context, seed=seed) for each in (candidate, fine_tuned))
    if own.settings != inherited.settings:  # open settings would become the teacher's
        fine_tuned = replace(fine_tuned, shape=replace(candidate.shape, settings=own.settings))
        inherited = student_architecture(fine_tuned, context, seed=seed)
    if own.widths != inherited.widths:
        raise RequestError(
            "init='inherit' must keep the widths of a member, but those of its teacher's settings differ"
        )
    return fine_tuned


def dense_float32(candidate: Candidate, context: TrialContext, seed: int) -> Candidate:
    """The same shape in float32 without zeros. Shows the cost and the savings of few bits and zeros."""
    if candidate.precision == Precision() and candidate.sparsity == Sparsity():
        return candidate
    apprentice = candidate.teaching.teacher == "apprentice"  # an apprentice needs rounding in training
    float32 = candidate.in_float32(channel_step(candidate, context.target))
    return replace(float32, teaching=Teaching() if apprentice else candidate.teaching)


CONTROLS: Mapping[str, Control] = {
    "no_teacher": Control(summary="the same network, cross-entropy on the labels alone", make=without_teacher),
    "uniform_width": Control(summary="no pruning, all layers scaled alike to the same size", make=uniform_width),
    "float32": Control(summary="the same shape in float32, without zeros", make=dense_float32),
    "inherit": Control(summary="the same shape, fine-tuned from the teacher's own weights", make=inherit),
}
"""Every control by name. A member equal to its control is not trained twice."""
