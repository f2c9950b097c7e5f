"""Obtain the teacher of a study: from the store, by training it once, or from the user."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from nas_compress.callbacks import Notice, Progress
from nas_compress.config.pretrained import BERT_EPSILON, bert_config, pretrained_folder
from nas_compress.config.schema import TrainingSection
from nas_compress.config.teacher_section import TeacherSection
from nas_compress.data.dataset import Dataset, Split
from nas_compress.errors import RequestError
from nas_compress.files import digest_of_values, writable_cache_folder
from nas_compress.losses.table import TASK_LOSS
from nas_compress.losses.training_loss import TrainingLoss
from nas_compress.models.families import build_student, family_named, require_fitting
from nas_compress.pruning.value_check import WholeLayers
from nas_compress.tasks.class_weights import draws_of
from nas_compress.tasks.task import Task
from nas_compress.teacher.given import GivenTeacher, build_given_module, describe_given
from nas_compress.teacher.pretrained.bert_weights import load_pretrained_, pretrained_digest, set_epsilon_
from nas_compress.teacher.runtime_network import RuntimeNetwork
from nas_compress.teacher.store import Start, Training, describe_stored, stored_format, stored_or_trained
from nas_compress.teacher.teacher import Teacher
from nas_compress.teacher.tensor_file import digest_of_tensors
from nas_compress.training.objective import LossObjective, PenalisedObjective, TrainingObjective
from nas_compress.values.architecture import Architecture, Width

_log = logging.getLogger(__name__)


def teacher_architecture(section: TeacherSection, dataset: Dataset, label: str = "") -> Architecture:
    """Return the architecture of a teacher of a known family."""
    family = family_named(section.family, where=f"{label}: teacher.family")
    require_fitting(section.family, dataset.task.signature, where=f"{label}: teacher.family")
    depths, base = section.depths or family.base_depths, section.widths or family.base_widths
    if len(base) != len(depths):
        raise RequestError(
            f"{label}: teacher.depths must have one entry per stage of {section.family} ({len(base)}), "
            f"but got depths={depths}; give widths too for another number of stages"
        )
    try:
        layers = family.layers(depths, base, section.settings)
        return family.complete(
            Architecture(
                family=section.family,
                signature=dataset.task.signature,
                normalisation=dataset.normalisation,
                depths=depths,
                widths=tuple(Width(layer=layer, asked=base, channels=base) for layer, base in layers),
                settings=section.settings,
            )
        )
    except RequestError as error:
        raise RequestError(f"{label}: teacher: {error}") from error


def obtain_teacher(
    section: TeacherSection,
    training: TrainingSection,
    dataset: Dataset,
    *,
    folder: Path,
    label: str,
    device: torch.device,
    progress: Progress,
    notice: Notice = _log.warning,
    find_whole: Callable[[], Sequence[WholeLayers]] | None = None,
    given: GivenTeacher | None = None,
) -> Teacher:
    """Return the study's teacher; it is trained at most once for the same settings and data.

    notice: receives a line about each damaged file of the cache, which is made again.
    find_whole: finds the layers that keep all their channels; by default the teacher does.
    given: the user's own teacher if it is loaded already.
    """
    samples = dataset.train.to(device)
    if not section.is_trained:
        given = given or GivenTeacher(
            section=section, folder=folder, task=dataset.task, batch=dataset.example, label=label
        )
        network = given.copy()
        digest = network.digest if isinstance(network, RuntimeNetwork) else digest_of_tensors(network.state_dict())
        made_by: dict[str, object] = {**describe_given(section, folder=folder, label=label), "weights": digest}
        family: str | None = None
        base: tuple[int, ...] = ()
        depths: tuple[int, ...] = ()
    else:
        architecture = teacher_architecture(section, dataset, label)
        made_by = {
            "teacher": section.model_dump(mode="json", exclude={"features"}),  # only a user's module has features
            "batch_size": training.batch_size,
            "weight_decay": training.weight_decay,
            "torch": torch.__version__,
        }
        if section.fine_tune is not None:
            made_by["pretrained"] = pretrained_digest(section, folder=folder, label=label)
            if (epsilon := _epsilon(section, folder, label)) != BERT_EPSILON:
                made_by["layer_norm_eps"] = epsilon
        family, depths = section.family, architecture.depths
        base = section.widths or family_named(section.family).base_widths
    made_by["data"] = dataset.fingerprint
    # only if given: these decide the networks that are derived from the teacher too
    if dataset.task.class_weights:
        made_by["class_weights"] = list(dataset.task.class_weights)
    if training.sampler != "shuffled":
        made_by["sampler"] = training.sampler
    if section.is_trained and training.precision != "auto":
        made_by["precision"] = training.precision
    fingerprint = fingerprint_of(made_by)
    store = writable_cache_folder() / "teachers" / fingerprint
    start = _pretrained(section, dataset, folder=folder, label=label)
    if family is not None:
        network = stored_or_trained(
            architecture,
            store,
            checkpoint=1.0,
            objective=lambda: teacher_objective(section, dataset.task),
            training=training_of(section, training, dataset.task, samples.labelled(dataset.task)),
            samples=samples.labelled(dataset.task),
            augmentation=dataset.augmentation.for_labels,
            label=label,
            on_epoch=lambda done, count: progress("teacher", done, count),
            notice=notice,
            start=start,
        )
    describe_stored(store, {"fingerprint": fingerprint, "made_by": made_by, **stored_format(store)}, notice)
    return Teacher(
        network=network.to(device).eval(),
        fingerprint=fingerprint,
        family=family,
        base_widths=base,
        depths=depths,
        folder=store,
        dataset=dataset,
        train_samples=samples,
        progress=progress,
        notice=notice,
        section=section,
        training=training,
        label=label,
        make=teacher_maker(section, dataset, folder=folder, label=label),
        find_whole=find_whole,
        start=start,
    )


def _pretrained(section: TeacherSection, dataset: Dataset, *, folder: Path, label: str) -> Start | None:
    """Return the start of a teacher that is fine-tuned; None for fresh weights."""
    if section.fine_tune is None:
        return None
    return Start(
        prepare=functools.partial(set_epsilon_, epsilon=_epsilon(section, folder, label)),
        load=functools.partial(
            load_pretrained_,
            section=section,
            pieces=dataset.task.signature.inputs[0].pieces,
            folder=folder,
            label=label,
        ),
        upper=section.fine_tune if isinstance(section.fine_tune, int) else None,
    )


def _epsilon(section: TeacherSection, folder: Path, label: str) -> float:
    where = f"{label}: teacher.hugging_face"
    config = bert_config(pretrained_folder(folder, str(section.hugging_face), where), where)
    return float(config["layer_norm_eps"])


def teacher_maker(section: TeacherSection, dataset: Dataset, *, folder: Path, label: str) -> Callable[[], nn.Module]:
    """Return a function that builds the teacher's module with initial weights."""
    if not section.is_trained:
        return lambda: build_given_module(section, folder=folder, task=dataset.task, batch=dataset.example, label=label)
    return lambda: build_student(teacher_architecture(section, dataset, label))


def teacher_objective(section: TeacherSection, task: Task) -> TrainingObjective:
    """Return the task's loss, with `bn_sparsity` penalised by the scales of batch normalisation."""
    objective = LossObjective(TrainingLoss(task, TASK_LOSS))
    return PenalisedObjective(objective, section.bn_sparsity) if section.bn_sparsity > 0 else objective


def training_of(section: TeacherSection, training: TrainingSection, task: Task, samples: Split | None) -> Training:
    """Return the settings of a teacher's training. samples: to draw as the study says; None for each once."""
    return Training(
        epochs=section.epochs,
        batch_size=training.batch_size,
        learning_rate=section.learning_rate,
        weight_decay=training.weight_decay,
        seed=section.seed,
        precision=training.precision,
        draws=None if samples is None else draws_of(task, samples.targets, training.sampler),
    )


def fingerprint_of(made_by: Mapping[str, object]) -> str:
    """Return the 16 hexadecimal digits that identify a teacher in the cache."""
    return digest_of_values(made_by)[:16]
