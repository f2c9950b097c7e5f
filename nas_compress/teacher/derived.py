"""Teachers derived from the study's teacher: earlier states, members, assistants and folds. Each is made once."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nas_compress.data.dataset import Dataset, Split
from nas_compress.data.stratified_split import stratified_split
from nas_compress.errors import RequestError
from nas_compress.files import cache_folder
from nas_compress.losses.training_loss import TrainingLoss
from nas_compress.models.families import build_student, family_named
from nas_compress.tasks.batch import Batch, device_of
from nas_compress.tasks.own_metrics import WithOwnMetrics
from nas_compress.tasks.several import SeveralTasks
from nas_compress.tasks.task import Task
from nas_compress.teacher import logits_cache
from nas_compress.teacher.logits_cache import answers_bytes, compute_answers
from nas_compress.teacher.obtain import fingerprint_of, teacher_architecture, teacher_objective, training_of
from nas_compress.teacher.store import Start, describe_stored, stored_format, stored_or_trained
from nas_compress.teacher.teacher import Teacher
from nas_compress.training.objective import LossObjective, TrainingObjective
from nas_compress.training.random_state import kept_random_states, seed_all
from nas_compress.values.architecture import Architecture, Width
from nas_compress.values.teaching import distillation

JOINED = ("out_of_fold", "single_tasks")
"""Kinds of teaching in which several networks answer together; their answers are stored."""

ASSISTANT_STEP = 8
"""Step of an assistant's widths."""


def earlier(teacher: Teacher, checkpoint: float) -> Teacher:
    """Return the teacher after a fraction of its training: 0.25, 0.5 or 0.75; 1.0 is the teacher itself."""
    if checkpoint == 1:
        return teacher
    _require_trained_here(teacher, f"checkpoint={checkpoint:g}")
    return _once(
        teacher,
        {"checkpoint": checkpoint},
        lambda folder: _trained(teacher, teacher.folder, checkpoint=checkpoint),
    )


def member(teacher: Teacher, number: int) -> Teacher:
    """Return the teacher trained again from another seed; number 0 is the teacher itself."""
    if number == 0:
        return teacher
    _require_trained_here(teacher, "teacher='ensemble'")
    seed = (teacher.section.seed + number) % 2**32
    return _once(
        teacher,
        {"seed": seed},
        lambda folder: _trained(teacher, folder, seed=seed, called=f"teacher {number + 1}"),
    )


def out_of_fold(teacher: Teacher, folds: int) -> Tensor:
    """Return answers like `Teacher.answers`, without those of a network to samples that it learned from.

    The samples with a label are divided into folds by class. A network like the teacher, trained on the other folds,
    answers the samples of a fold. The teacher answers samples without a label.
    """
    _require_trained_here(teacher, "teacher='out_of_fold'")
    kind = f"{folds} folds"
    if kind not in teacher.joined_answers:
        task, samples = teacher.dataset.task, teacher.train_samples
        answers = teacher.answers.clone()
        for number, fold in enumerate(divided_into_folds(task, samples.targets, folds, seed=teacher.section.seed)):
            network = _without_fold(teacher, fold, number=number, folds=folds).network
            own = compute_answers(network, samples, teacher.dataset.augmentation, task, among=fold)
            answers[:, fold.to(answers.device)] = own.relative
        teacher.joined_answers[kind] = answers
    return teacher.joined_answers[kind]


def of_single_tasks(teacher: Teacher) -> Tensor:
    """Return answers like `Teacher.answers`, those of each task by a network like the teacher, trained on it alone.

    A network learns from the samples with a label of its task.
    """
    _require_trained_here(teacher, "teacher='single_tasks'")
    task = several_tasks_of(teacher.dataset.task)
    if "tasks" not in teacher.joined_answers:
        rows = []
        for name, single in task.parts:
            network = _of_task(teacher, task, name).network
            found = compute_answers(
                network,
                teacher.train_samples,
                teacher.dataset.augmentation,
                single,
                logits=functools.partial(task.row_of, name),
            )
            rows.append(found.relative)
        teacher.joined_answers["tasks"] = torch.stack(rows, dim=2)
    return teacher.joined_answers["tasks"]


def pretrained(teacher: Teacher) -> Teacher:
    """Return the encoder as it was before it was fine-tuned, with a fresh classifier that nobody reads.

    RequestError if the teacher does not start from pretrained weights.
    """
    start = teacher.start
    if start is None:
        rule = "teacher='task_agnostic' needs an encoder of teacher.hugging_face with fine_tune"
        raise RequestError(f"{rule}, but {teacher.label} has teacher.{teacher.section.source}")

    def make(folder: Path) -> nn.Module:
        device = device_of(teacher.train_samples.inputs)
        with kept_random_states(device):
            seed_all(teacher.section.seed)
            network = build_student(teacher_architecture(teacher.section, teacher.dataset, teacher.label))
            start.prepare(network)
            start.load(network)
        return network.to(device)

    return _once(teacher, {"before": "fine_tune"}, make)


def several_tasks_of(task: Task) -> SeveralTasks:
    """Return the tasks of a study; RequestError if it has one task only."""
    inner = task.task if isinstance(task, WithOwnMetrics) else task
    if not isinstance(inner, SeveralTasks):
        raise RequestError(f"teacher='single_tasks' needs several tasks ([tasks.NAME]), but the task is {task.name}")
    return inner


def _of_task(teacher: Teacher, task: SeveralTasks, name: str) -> Teacher:
    """Return a teacher of one task, trained on the samples with its label."""
    single, samples = task.task(name), teacher.train_samples
    known = task.labelled_by_task(samples.targets)[name].nonzero()[:, 0]
    own = replace(samples, targets=task.targets_of(name, samples.targets)).at(known)
    shape = teacher_architecture(teacher.section, teacher.dataset, teacher.label)
    inputs = {key: values for key, values in dict(shape.normalisation).items() if key in task.signature.input_names}
    architecture = replace(shape, signature=single.signature, normalisation={**inputs, **single.output_normalisation})
    return _once(
        teacher,
        {"task": name},
        lambda folder: _trained(
            teacher,
            folder,
            architecture=architecture,
            objective=lambda: teacher_objective(teacher.section, single),
            samples=own,
            weighted=False,
            called=f"teacher of {name}",
            start=teacher.start,
        ),
    )


def _without_fold(teacher: Teacher, fold: Tensor, *, number: int, folds: int) -> Teacher:
    """Return a teacher trained on the labelled samples outside a fold."""
    samples = teacher.train_samples
    others = teacher.dataset.task.labelled(samples.targets)
    others[fold.to(others.device)] = False
    return _once(
        teacher,
        {"fold": number, "folds": folds},
        lambda folder: _trained(
            teacher,
            folder,
            samples=samples.at(others.nonzero()[:, 0]),
            called=f"teacher of fold {number + 1} of {folds}",
        ),
    )


def require_joined(dataset: Dataset, folds: int | None) -> None:
    """Raise RequestError unless several networks can answer the samples together.

    folds: each needs a labelled sample; None for a network for each task.
    """
    if folds is None:
        several_tasks_of(dataset.task)
    elif folds > dataset.labelled_samples:
        rule = f"2 <= folds <= {dataset.labelled_samples} (samples with a label) must hold"
        raise RequestError(f"{rule}, but got folds={folds}")
    if dataset.augmentation.mixes:
        raise RequestError("joined answers need single samples, but data.mixup and data.cutmix mix samples")
    size = answers_bytes(dataset.train, dataset.augmentation, dataset.task)
    if size > logits_cache.MOST_BYTES:
        most = f"{logits_cache.MOST_BYTES / 2**30:.3g} GiB"
        raise RequestError(f"joined answers must fit into {most}, but got {size / 2**30:.3g} GiB; use fewer data.views")


def divided_into_folds(task: Task, targets: Batch, folds: int, *, seed: int) -> list[Tensor]:
    """Return the indices of the labelled samples in `folds` parts of nearly equal sizes, each class in equal shares."""
    index = task.labelled(targets).cpu().nonzero()[:, 0]
    labels = np.zeros(len(index), dtype=np.int64)
    if task.classes is not None:
        labels = task.labels(targets).cpu().numpy()[index.numpy()]
    counts = [len(range(number, len(index), folds)) for number in range(folds)]
    return [index[torch.from_numpy(part)] for part in stratified_split(labels, counts=counts, seed=seed)]


def _training_values(teacher: Teacher) -> dict[str, object]:
    """Return what decides the training of a network like a user's own teacher, for its fingerprint."""
    section, training = teacher.section, teacher.training
    return {
        "epochs": section.epochs,
        "learning_rate": section.learning_rate,
        "seed": section.seed,
        "batch_size": training.batch_size,
        "weight_decay": training.weight_decay,
        "torch": torch.__version__,
        **({"precision": training.precision} if training.precision != "auto" else {}),
    }


def assistant(teacher: Teacher, size: float) -> Teacher:
    """Return a network of `size` times the teacher's widths, distilled from it.

    The loss is kd at temperature 4 with weights 0.1 and 0.9. The family is the teacher's; resnet for a user's
    module. The assistant of a teacher that is fine-tuned has fresh weights, so it learns for the epochs and with the
    rate of the students.
    """
    losses = distillation(hard_weight=0.1, soft_weight=0.9, temperature=4.0)
    training = teacher.training
    fresh = {"epochs": training.epochs, "learning_rate": training.learning_rate} if teacher.start is not None else {}
    # the fingerprint of a user's own teacher does not tell how its assistant learns
    own = {} if teacher.family is not None else _training_values(teacher)
    return _once(
        teacher,
        {"assistant_size": size, **fresh, **own},
        lambda folder: _trained(
            teacher,
            folder,
            architecture=assistant_architecture(teacher, size),
            objective=lambda: LossObjective(TrainingLoss(teacher.dataset.task, losses), answers=teacher.answer_source),
            samples=teacher.train_samples,
            called="assistant",
            changes=fresh,
        ),
    )


def assistant_architecture(teacher: Teacher, size: float) -> Architecture:
    """Return the shape of an assistant: every width scaled and rounded to 8 channels and whole heads."""
    shape = teacher_architecture(teacher.section, teacher.dataset, teacher.label)
    shared = family_named(shape.family).multiples([width.layer for width in shape.widths], shape.settings)
    return replace(shape, widths=tuple(_scaled(width, size, shared.get(width.layer, 1)) for width in shape.widths))


def _scaled(width: Width, size: float, multiple: int) -> Width:
    step = math.lcm(ASSISTANT_STEP, multiple)
    asked = width.channels * size
    return Width(layer=width.layer, asked=asked, channels=max(step, round(asked / step) * step))


def _require_trained_here(teacher: Teacher, wanted: str) -> None:
    if teacher.family is None:
        raise RequestError(
            f"teaching with {wanted} needs a teacher that the study trains, but {teacher.label} has "
            f"teacher.{teacher.section.source}"
        )


def _once(teacher: Teacher, made_by: Mapping[str, object], make: Callable[[Path], nn.Module]) -> Teacher:
    """Return the teacher that `make` builds in its own folder; call it once."""
    origin = {"from": teacher.fingerprint, **made_by}
    fingerprint = fingerprint_of(origin)
    if fingerprint not in teacher.derived:
        folder = cache_folder() / "teachers" / fingerprint
        network = make(folder).eval()
        teacher.derived[fingerprint] = replace(teacher, network=network, fingerprint=fingerprint, folder=folder)
        values = {"fingerprint": fingerprint, "made_by": origin, **stored_format(folder)}
        describe_stored(folder, values, teacher.notice)
    return teacher.derived[fingerprint]


def _trained(
    teacher: Teacher,
    folder: Path,
    *,
    architecture: Architecture | None = None,
    checkpoint: float = 1.0,
    objective: Callable[[], TrainingObjective] | None = None,
    seed: int | None = None,
    samples: Split | None = None,
    weighted: bool = True,
    called: str = "teacher",
    start: Start | None = None,
    changes: Mapping[str, Any] = MappingProxyType({}),
) -> nn.Module:
    """Train a network like the teacher, with the given changes.

    samples: by default those with a label. weighted: draw them as the study says. start: of another architecture, by
    default fresh weights. changes: of the fields of `Training`.
    """
    augmentation = teacher.dataset.augmentation if called == "assistant" else teacher.dataset.augmentation.for_labels
    samples = samples or teacher.labelled_samples
    training = training_of(teacher.section, teacher.training, teacher.dataset.task, samples if weighted else None)

    def after(done: int, count: int) -> None:
        teacher.derived_epochs += 1
        teacher.progress(called, done, count)

    return stored_or_trained(
        architecture or teacher_architecture(teacher.section, teacher.dataset, teacher.label),
        folder,
        checkpoint=checkpoint,
        objective=objective or (lambda: teacher_objective(teacher.section, teacher.dataset.task)),
        training=replace(training, **changes, seed=training.seed if seed is None else seed),
        samples=samples,
        augmentation=augmentation,
        label=teacher.label,
        on_epoch=after,
        notice=teacher.notice,
        start=teacher.start if architecture is None else start,
    )
