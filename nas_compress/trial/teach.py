"""Train a student as its candidate's teaching says: who the teacher is, and what the student learns from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from nas_compress.losses.table import TASK_LOSS, TERMS, feature_terms, needs_teacher
from nas_compress.losses.term import LogitTerm
from nas_compress.losses.training_loss import TrainingLoss
from nas_compress.measurement.pipeline import Stopwatch
from nas_compress.models.features import Observation
from nas_compress.tasks.batch import rows
from nas_compress.teacher.derived import assistant, earlier, member
from nas_compress.teacher.logits_cache import compute_answers
from nas_compress.training.checkpoint import Checkpoint
from nas_compress.training.mutual import MutualObjective
from nas_compress.training.objective import LossObjective, Objective, observe
from nas_compress.trial.context import TrialContext
from nas_compress.trial.monitor import Monitor
from nas_compress.trial.mutual_peers import fresh_teacher, make_peers
from nas_compress.trial.shape import channel_step
from nas_compress.trial.training import fit
from nas_compress.values.candidate import Candidate, Teaching

OnEpoch = Callable[[int, int], None]
"""(finished epochs, planned epochs)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Guide:
    """What a student learns from: answers (views, N, C) or (views, N, members, C), and a network for its features."""

    answers: Tensor | None
    network: nn.Module | None


def teach(
    candidate: Candidate,
    students: Sequence[nn.Module],
    context: TrialContext,
    *,
    epochs: int,
    seed: int,
    macs: int,
    watch: Stopwatch,
    on_epoch: OnEpoch | None = None,
    monitor: Monitor | None = None,
    checkpoint: Checkpoint | None = None,
) -> dict[str, float]:
    """Train the students in place, the last of them to be the trial's; return its terms over its last epoch.

    An apprentice of scheme `fine_tuned` has a float training before, which is not monitored.
    More than one are generations (`born_again`): each is taught by the one before. Peers of mutual learning are made
    and dropped here. The monitor watches the training of the last student and may end it.
    With a `checkpoint` what was killed goes on after its last epoch.
    """
    with watch.stage("teacher answers"):
        guide = find_guide(candidate, context)
    planned = epochs * len(students)
    if candidate.teaching.scheme == "fine_tuned":
        with watch.stage("training"):
            _fit_float(
                candidate,
                students[-1].to(context.device),
                context,
                epochs=epochs,
                seed=seed,
                macs=macs,
                checkpoint=checkpoint,
            )
    losses: dict[str, float] = {}
    for number, student in enumerate(students):
        student.to(context.device)
        if number:
            with watch.stage("teacher answers"):
                guide = _previous(candidate, students[number - 1], context)
        with watch.stage("training"):
            objective = objective_of(candidate, student, guide, context, seed=seed)
            losses = fit(
                student,
                objective,
                candidate,
                context,
                epochs=epochs,
                seed=seed,
                macs=macs,
                checkpoint=checkpoint,
                on_epoch=_after_epoch(
                    student, on_epoch, number * epochs, planned, monitor if student is students[-1] else None
                ),
            )
    return losses


def _fit_float(
    candidate: Candidate,
    student: nn.Module,
    context: TrialContext,
    *,
    epochs: int,
    seed: int,
    macs: int,
    checkpoint: Checkpoint | None,
) -> None:
    """The student's float training on the labels alone, which the low-bit control starts from."""
    float32 = candidate.in_float32(channel_step(candidate, context.target))
    plain = replace(float32, losses=TASK_LOSS, teaching=Teaching())
    fit(
        student,
        LossObjective(TrainingLoss(context.dataset.task, TASK_LOSS)),
        plain,
        context,
        epochs=epochs,
        seed=seed,
        macs=macs,
        checkpoint=checkpoint,
    )


def find_guide(candidate: Candidate, context: TrialContext) -> Guide:
    """The teacher that the candidate's terms need, trained or read now where it never was."""
    teaching, teacher = candidate.teaching, context.teacher
    if not needs_teacher(candidate.losses) or teaching.teacher == "mutual" or teaching.scheme == "joint":
        return Guide(answers=None, network=None)
    wanted = _reads_logits(candidate)
    if teaching.teacher == "ensemble":
        return Guide(answers=_together(candidate, context) if wanted else None, network=teacher.network)
    if teaching.teacher == "assistant":
        teacher = assistant(teacher, teaching.assistant_size or 0.5)
    else:
        teacher = earlier(teacher, teaching.checkpoint or 1.0)
    return Guide(answers=teacher.answers if wanted else None, network=teacher.network)


def _together(candidate: Candidate, context: TrialContext) -> Tensor:
    """Answers of all members: each for itself (their probabilities are averaged at the term's temperature), or mean."""
    members = [member(context.teacher, number).answers for number in range(candidate.teaching.members or 2)]
    together = torch.stack(members, dim=2)
    return together.float().mean(dim=2).half() if candidate.teaching.average == "logits" else together


def _previous(candidate: Candidate, generation: nn.Module, context: TrialContext) -> Guide:
    """The generation before as the teacher."""
    answers = None
    if _reads_logits(candidate):
        answers = compute_answers(
            generation, context.teacher.train_samples, context.dataset.augmentation, context.dataset.task
        )
    return Guide(answers=answers, network=generation.eval())


def objective_of(
    candidate: Candidate, student: nn.Module, guide: Guide, context: TrialContext, *, seed: int
) -> Objective:
    """What the student is taught with: by its guide, or in mutual learning beside peers that are made here."""
    watched = bool(feature_terms(candidate.losses))
    if candidate.teaching.teacher == "mutual":
        return _mutual_objective(
            candidate, student, make_peers(candidate, context, seed=seed), context, watched=watched
        )
    if candidate.teaching.scheme == "joint":
        return _joint_objective(candidate, student, context, seed=seed, watched=watched)
    watched = watched and guide.network is not None
    own = _observe_shapes(student, context) if watched else None
    other = _observe_shapes(guide.network, context) if watched and guide.network is not None else None
    return LossObjective(
        _loss(candidate, context, own, other),
        answers=guide.answers,
        teacher=guide.network if watched else None,
        watched=context.teacher.section.features,
    )


def _mutual_objective(
    candidate: Candidate, student: nn.Module, peers: list[nn.Module], context: TrialContext, *, watched: bool
) -> MutualObjective:
    """Each network's loss, with adaptation layers to the one that it looks at where terms on features ask for them."""
    networks = [student, *peers]
    seen = [_observe_shapes(network, context) if watched else None for network in networks]
    others = [seen[1], *([seen[0]] * len(peers))]
    losses = [_loss(candidate, context, own, other) for own, other in zip(seen, others, strict=True)]
    return MutualObjective(peers, losses, watched=context.teacher.section.features)


def _joint_objective(
    candidate: Candidate, student: nn.Module, context: TrialContext, *, seed: int, watched: bool
) -> MutualObjective:
    """The student learns from a float network of the teacher's shape, which learns from the labels beside it."""
    teacher = fresh_teacher(context, seed=seed)
    own, other = (_observe_shapes(network, context) if watched else None for network in (student, teacher))
    losses = [_loss(candidate, context, own, other), TrainingLoss(context.dataset.task, TASK_LOSS)]
    return MutualObjective([teacher], losses, watched=context.teacher.section.features)


def _loss(
    candidate: Candidate, context: TrialContext, student: Observation | None, teacher: Observation | None
) -> TrainingLoss:
    return TrainingLoss(
        context.dataset.task,
        candidate.losses,
        student=student,
        teacher=teacher,
        annealing=candidate.teaching.annealing,
        soft_stop=candidate.teaching.soft_stop,
    )


def _observe_shapes(network: nn.Module, context: TrialContext) -> Observation:
    """Observe two samples, for the shapes of all features."""
    training = network.training
    with torch.no_grad():
        batch, watched = rows(context.validation.inputs, 0, 2), context.teacher.section.features
        seen = observe(network.eval(), batch, context.dataset.task, relations=True, watched=watched)
    network.train(training)
    return seen


def _reads_logits(candidate: Candidate) -> bool:
    terms = [TERMS[term.name] for term in candidate.losses]
    return any(isinstance(term, LogitTerm) and term.needs_teacher for term in terms)


def _after_epoch(
    student: nn.Module, on_epoch: OnEpoch | None, before: int, planned: int, monitor: Monitor | None
) -> Callable[[int, dict[str, float]], bool]:
    def after(done: int, terms: dict[str, float]) -> bool:
        if on_epoch is not None:
            on_epoch(before + done, planned)
        return monitor is not None and monitor.epoch(student, done)

    return after
