"""Training of a student by its candidate's teaching: supervision, objective and training."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from nas_compress.data.augment.protocol import Views
from nas_compress.data.dataset import Dataset
from nas_compress.losses.table import TASK_LOSS, needs_teacher, reads_answers, runs_teacher
from nas_compress.losses.training_loss import TrainingLoss
from nas_compress.measurement.pipeline import Stopwatch
from nas_compress.models.features import Observation
from nas_compress.tasks.batch import rows, to_device
from nas_compress.teacher.derived import assistant, earlier, member, of_single_tasks, out_of_fold, pretrained
from nas_compress.teacher.features.choose import stored_features
from nas_compress.teacher.features.stored import Observe
from nas_compress.teacher.logits_cache import below_maximum, compute_answers
from nas_compress.teacher.teacher import Teacher
from nas_compress.training.checkpoint import Checkpoint
from nas_compress.training.exits_objective import ExitsObjective
from nas_compress.training.live_answers import LiveAnswers
from nas_compress.training.mutual_objective import MutualObjective
from nas_compress.training.objective import LossObjective, TrainingObjective, observe
from nas_compress.trial.context import TrialContext
from nas_compress.trial.fitted_exits import fresh_heads
from nas_compress.trial.monitor import Monitor
from nas_compress.trial.pretrained.gradual import GradualCuts, teach_gradually
from nas_compress.trial.pretrained.task_agnostic_stages import body_still, stages_of
from nas_compress.trial.shape import fresh_networks
from nas_compress.trial.training import fit
from nas_compress.values.architecture import Architecture
from nas_compress.values.candidate import Candidate, Precision, Sparsity, Teaching

OnEpoch = Callable[[int, int], None]
"""(finished epochs, planned epochs)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Supervision:
    """Sources of a student's training besides the labels.

    answers: logits of all training samples, (views, N, C), or (views, N, members, C) of an ensemble. A constant may be
    missing in each row. Networks that answer each batch, if the logits would take too much memory.
    network: for its features. views: the samples of network and answers, if they have another size than the student's.
    teacher: that of the network, if its features can be stored.
    """

    answers: Tensor | LiveAnswers | None
    network: nn.Module | None
    views: Views | None = None
    teacher: Teacher | None = None


def teach(
    candidate: Candidate,
    students: Sequence[nn.Module],
    context: TrialContext,
    *,
    layer_bits: Mapping[str, int],
    epochs: int,
    seed: int,
    macs: int | None = None,
    peer: Architecture | None = None,
    watch: Stopwatch,
    on_epoch: OnEpoch | None = None,
    monitor: Monitor | None = None,
    checkpoint: Checkpoint | None = None,
) -> dict[str, float]:
    """Train the students in place; return the loss terms of the last one's last epoch.

    An apprentice of scheme `fine_tuned` is trained in float first, without the monitor. Peers of mutual learning are
    built and dropped here.

    students: one, or the generations of a born-again student. Each generation learns from the one before.
    layer_bits: weight bits of each layer, by path.
    peer: shape of the peers in mutual learning.
    monitor: validates the last student and may end its training.
    checkpoint: an interrupted training resumes after its last saved epoch.
    """
    with watch.stage("teacher answers"):
        supervision = find_supervision(candidate, context)
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
                supervision = _from_generation(candidate, students[number - 1], context)
        losses, before = {}, 0
        cuts = _gradual_cuts(candidate, student, context, seed=seed)
        if cuts is not None:
            before = candidate.pruning.rounds
            teach_gradually(
                cuts,
                functools.partial(
                    _fit_cut,
                    cuts,
                    supervision,
                    context,
                    seed=seed,
                    checkpoint=checkpoint,
                    on_epoch=lambda done: None if on_epoch is None else on_epoch(done, planned),
                ),
            )
        for stage in stages_of(candidate, epochs - before):
            last = before + stage.epochs == epochs
            with watch.stage("teacher answers"):
                objective = objective_of(stage.candidate, student, supervision, context, seed=seed, peer=peer)
            if cuts is not None:
                cuts.select_(objective)
            with watch.stage("training"), body_still(student, stage.frozen):
                if last and candidate.exits is not None and candidate.exits.training == "joint":
                    heads = fresh_heads(student, candidate.exits, context, seed=seed)
                    objective = ExitsObjective(objective, heads, candidate.exits, context.dataset.task)
                losses |= fit(
                    student,
                    objective,
                    stage.candidate,
                    context,
                    layer_bits=layer_bits,
                    epochs=stage.epochs,
                    seed=seed + 2 * before,
                    macs=macs,
                    checkpoint=checkpoint,
                    on_epoch=_after_epoch(
                        student,
                        on_epoch,
                        number * epochs,
                        planned,
                        monitor if last and student is students[-1] else None,
                        before=before,
                    ),
                )
            before += stage.epochs
    return losses


def _gradual_cuts(candidate: Candidate, student: nn.Module, context: TrialContext, *, seed: int) -> GradualCuts | None:
    if candidate.pruning.rounds == 1:
        return None
    return GradualCuts(candidate=candidate, student=student, teacher=context.teacher, seed=seed)


def _fit_cut(
    cuts: GradualCuts,
    supervision: Supervision,
    context: TrialContext,
    network: nn.Module,
    done: int,
    *,
    seed: int,
    checkpoint: Checkpoint | None,
    on_epoch: Callable[[int], None],
) -> dict[str, float]:
    """Train a network in float for one epoch after a cut. done: finished epochs."""
    plain = replace(cuts.candidate, precision=Precision(), sparsity=Sparsity())
    objective = objective_of(plain, network, supervision, context, seed=seed)
    cuts.select_(objective)

    def after(epoch: int, terms: dict[str, float]) -> bool:
        on_epoch(done + epoch)
        return False

    return fit(
        network,
        objective,
        plain,
        context,
        layer_bits={},
        epochs=1,
        seed=seed + done,
        checkpoint=checkpoint,
        on_epoch=after,
    )


def _fit_float(
    candidate: Candidate,
    student: nn.Module,
    context: TrialContext,
    *,
    epochs: int,
    seed: int,
    macs: int | None = None,
    checkpoint: Checkpoint | None,
) -> None:
    """Train the student in float on the labels alone, as the start of an apprentice."""
    plain = replace(candidate, precision=Precision(), sparsity=Sparsity(), losses=TASK_LOSS, teaching=Teaching())
    fit(
        student,
        LossObjective(TrainingLoss(context.dataset.task, TASK_LOSS)),
        plain,
        context,
        layer_bits={},
        epochs=epochs,
        seed=seed,
        macs=macs,
        checkpoint=checkpoint,
    )


def find_supervision(candidate: Candidate, context: TrialContext) -> Supervision:
    """Return the supervision for the candidate's losses. Teachers without weights are trained now."""
    teaching, teacher = candidate.teaching, context.teacher
    if not needs_teacher(candidate.losses) or teaching.teacher == "mutual" or teaching.scheme == "joint":
        return Supervision(answers=None, network=None)
    wanted = reads_answers(candidate.losses)
    if teaching.teacher == "ensemble":
        answers = _ensemble_answers(candidate, context) if wanted else None
        return _by(teacher, answers, context)
    if teaching.teacher == "out_of_fold":
        return _by(teacher, out_of_fold(teacher, teaching.folds or 2), context)
    if teaching.teacher == "single_tasks":
        return _by(teacher, of_single_tasks(teacher), context)
    if teaching.teacher == "task_agnostic":
        return _by(pretrained(teacher), None, context)
    if teaching.teacher == "assistant":
        teacher = assistant(teacher, teaching.assistant_size or 0.5)
    else:
        teacher = earlier(teacher, teaching.checkpoint or 1.0)
    return _by(teacher, teacher.answer_source if wanted else None, context)


def _by(teacher: Teacher, answers: Tensor | LiveAnswers | None, context: TrialContext) -> Supervision:
    return Supervision(answers=answers, network=teacher.network, views=context.teacher_views, teacher=teacher)


def _ensemble_answers(candidate: Candidate, context: TrialContext) -> Tensor | LiveAnswers:
    """Answers of all members: their mean, or each by itself for averaging at the temperature of the loss term.

    Each member's are differences to its maximum; the mean differs from the mean of the logits by a constant per sample.
    """
    members = [member(context.teacher, number) for number in range(candidate.teaching.members or 2)]
    averaged = candidate.teaching.average == "logits"
    stored = [each.answer_source for each in members]
    tensors = [each for each in stored if isinstance(each, Tensor)]
    if len(tensors) < len(stored):
        return LiveAnswers([each.network for each in members], context.dataset.task, averaged=averaged)
    together = torch.stack(tensors, dim=2)
    return below_maximum(together.float().mean(dim=2))[0] if averaged else together


def _from_generation(candidate: Candidate, generation: nn.Module, context: TrialContext) -> Supervision:
    """The supervision by the previous generation."""
    answers: Tensor | LiveAnswers | None = None
    if reads_answers(candidate.losses):
        samples, augmentation, task = context.train, context.dataset.augmentation, context.dataset.task
        if isinstance(context.teacher.answer_source, LiveAnswers):
            answers = LiveAnswers([generation], task)
        else:
            answers = compute_answers(generation, samples, augmentation, task).relative
    return Supervision(answers=answers, network=generation.eval())


def objective_of(
    candidate: Candidate,
    student: nn.Module,
    supervision: Supervision,
    context: TrialContext,
    *,
    seed: int,
    peer: Architecture | None = None,
) -> TrainingObjective:
    """The student's objective. Peers in mutual learning and the teacher of scheme `joint` are built here."""
    teaching, features = candidate.teaching, context.teacher.section.features
    peers: list[nn.Module] = []
    if peer is not None:
        build = functools.partial(context.teacher.build, peer)
        peers = fresh_networks(build, teaching.peers or 1, seed=seed)
    elif teaching.scheme == "joint":
        peers = fresh_networks(context.teacher.make, 1, seed=seed)
    for network in peers:
        network.to(context.device)
    teacher = peers[0] if peers else supervision.network
    shown: list[Observation | None] = [None] * max(2, 1 + len(peers))
    if teacher is not None and runs_teacher(candidate.losses):
        of_teacher = context.teacher.dataset if supervision.views is not None else context.dataset
        shown = [_observe_shapes(student, context, context.dataset), _observe_shapes(teacher, context, of_teacher)]
        shown += [_observe_shapes(network, context, context.dataset) for network in peers[1:]]
    else:
        teacher = None
    loss = functools.partial(
        TrainingLoss,
        context.dataset.task,
        candidate.losses,
        annealing=teaching.annealing,
        soft_stop=teaching.soft_stop,
    )
    losses = [loss(student=shown[0], teacher=shown[1])]
    if not peers:
        return LossObjective(
            losses[0],
            answers=supervision.answers,
            teacher=teacher,
            watched=features,
            views=supervision.views,
            stored=_stored(losses[0], supervision.teacher, shown[1], context),
        )
    if teaching.scheme == "joint":
        losses.append(TrainingLoss(context.dataset.task, TASK_LOSS))
    else:
        losses += [loss(student=peer, teacher=shown[0]) for peer in shown[1:]]
    return MutualObjective(peers, losses, watched=features)


def _stored(
    loss: TrainingLoss, teacher: Teacher | None, seen: Observation | None, context: TrialContext
) -> Observe | None:
    if teacher is None or seen is None:
        return None
    training = context.training
    return stored_features(
        teacher, loss, seen, epochs=training.epochs, batch=training.batch_size, pause=context.target.pause
    )


def _observe_shapes(network: nn.Module, context: TrialContext, dataset: Dataset) -> Observation:
    """Observe two samples, for the shapes of all features."""
    training = network.training
    with torch.no_grad():
        batch = to_device(rows(dataset.validation.inputs, 0, 2), context.device)
        watched = context.teacher.section.features
        seen = observe(network.eval(), batch, dataset.task, relations=True, watched=watched)
    network.train(training)
    return seen


def learns_from_answers(candidate: Candidate) -> bool:
    """True if the candidate learns from stored logits of the study's teacher or of one derived from it."""
    teaching = candidate.teaching
    return teaching.teacher != "mutual" and teaching.scheme != "joint" and reads_answers(candidate.losses)


def _after_epoch(
    student: nn.Module, on_epoch: OnEpoch | None, earlier: int, planned: int, monitor: Monitor | None, *, before: int
) -> Callable[[int, dict[str, float]], bool]:
    """earlier: epochs of earlier generations. before: epochs of the student's earlier stages."""

    def after(done: int, terms: dict[str, float]) -> bool:
        if on_epoch is not None:
            on_epoch(earlier + before + done, planned)
        return monitor is not None and monitor.epoch(student, before + done)

    return after
