"""Load the data of a study as its file says."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from nas_compress.callbacks import Notice, Progress, no_progress
from nas_compress.config.pretrained import VOCABULARY, bert_config, pretrained_folder
from nas_compress.config.schema import TEACHER_VOCABULARY, DataSection, StudySpec
from nas_compress.config.study_file import StudyFile
from nas_compress.data.audio.parts import SoundSettings
from nas_compress.data.augment.choose import Drawing
from nas_compress.data.augment.spectrograms import SpecAugment
from nas_compress.data.dataset import Dataset
from nas_compress.data.load_dataset import load_dataset
from nas_compress.data.several_tasks.parts import TaskChoice
from nas_compress.data.text.parts import TextSettings
from nas_compress.data.text.tables import TextFiles
from nas_compress.data.text.vocabulary import given_pieces
from nas_compress.errors import RequestError
from nas_compress.measurement.own_metrics import with_own_metrics
from nas_compress.tasks.class_weights import sampling_weights, with_class_weights
from nas_compress.tasks.task import Task

_log = logging.getLogger(__name__)


def study_dataset(file: StudyFile, *, progress: Progress = no_progress, notice: Notice = _log.warning) -> Dataset:
    """Load the data of a study; its task measures the figures that the study names.

    Several sizes of pictures are loaded; the result has the largest one, and the others as its `sizes`.
    progress, notice: of data that are read into a store. RequestError if the data cannot be used.
    """
    size, vocabularies = file.spec.data.image_size, file.spec.data.vocabulary_size
    if vocabularies:
        if file.spec.data.augment is not None:
            # the teacher's answer to a view must be one to the same text
            rule = "data.vocabulary_size needs texts as they are, because changed ones differ between vocabularies"
            raise RequestError(f"{file.label}: {rule}, but got augment={file.spec.data.augment!r}; leave one out")
        texts = {each: _with_pieces(file, each, progress, notice) for each in vocabularies}
        own = _at_size(file, None, progress, notice)
        _require_known_apart(own, texts, file.label)
        return replace(own, sizes=texts)
    if not isinstance(size, tuple):
        return _at_size(file, size, progress, notice)
    *smaller, largest = sorted(size)
    others = {each: _at_size(file, each, progress, notice) for each in smaller}
    return replace(_at_size(file, largest, progress, notice), sizes=others)


def _require_known_apart(own: Dataset, texts: Mapping[int, Dataset], label: str) -> None:
    """Refuse other word pieces of the same number as the teacher's: a file is known by the number of its ids."""
    (given,) = own.task.signature.inputs
    for size, other in texts.items():
        (spec,) = other.task.signature.inputs
        if spec == given and spec.pieces != given.pieces:
            rule = f"data.vocabulary_size must have other numbers of word pieces than data.vocabulary ({spec.values})"
            raise RequestError(f"{label}: {rule}, but got {size}; choose another size")


def _with_pieces(file: StudyFile, size: int, progress: Progress, notice: Notice) -> Dataset:
    """Load texts with a vocabulary of `size` learned word pieces, or of so many of the teacher's if it is pruned."""
    if file.spec.data.pruned_vocabulary:
        return replace(_at_size(file, None, progress, notice, kept=size), vocabulary_size=size)
    data = file.spec.data.model_copy(update={"vocabulary": size})
    own = replace(file, spec=file.spec.model_copy(update={"data": data}))
    return replace(_at_size(own, None, progress, notice), vocabulary_size=size)


def _at_size(
    file: StudyFile, size: int | None, progress: Progress, notice: Notice, *, kept: int | None = None
) -> Dataset:
    """Load the data. size: of pictures. kept: number of word pieces of a pruned vocabulary; None for all."""
    spec = file.spec
    dataset = load_dataset(
        name=spec.data.name,
        factory=spec.data.factory,
        pictures=spec.data.folder,
        image_size=size,
        sound_settings=SoundSettings(
            seconds=spec.data.seconds, bands=spec.data.mels, speaker_part=spec.data.speaker_part
        ),
        texts=_text_files(spec.data),
        text_settings=_text_settings(file, kept),
        unlabelled=_unlabelled(spec.data),
        folder=file.folder,
        seed=spec.data.seed,
        shift=spec.data.shift,
        flip=spec.data.flip,
        drawing=_drawing(spec.data),
        train_samples=spec.data.train_samples,
        labels=spec.data.labels,
        task=spec.data.task,
        tasks=[
            TaskChoice(
                name=name,
                labels=task.labels or name,
                metric=task.metric,
                kind=task.kind,
                texts=None if task.text is None else TextFiles(path=task.text, text=task.text_columns),
            )
            for name, task in spec.tasks.items()
        ],
        preprocess=spec.data.preprocess,
        where=f"{file.label}: data.{spec.data.source}",
        progress=progress,
        notice=notice,
    )
    dataset = replace(dataset, task=_for_rare_classes(dataset, spec, f"{file.label}: "))
    task = with_own_metrics(dataset.task, spec.metrics, folder=file.folder, label=file.label)
    return replace(dataset, task=task.measuring(spec.wanted_figures))


def _for_rare_classes(dataset: Dataset, spec: StudySpec, where: str) -> Task:
    """Return the task with the study's class weights; RequestError if these or the sampler do not fit the data."""
    training, task, targets = spec.training, dataset.task, dataset.train.targets
    if training.class_weight is not None:
        task = with_class_weights(task, training.class_weight, targets, where=f"{where}training.class_weight")
    if training.sampler == "balanced":
        sampling_weights(task, targets, where=f"{where}training.sampler")
    return task


def _text_files(data: DataSection) -> TextFiles | None:
    if data.text is None:
        return None
    label = "label" if data.label_column is None else data.label_column
    return TextFiles(path=data.text, text=data.text_columns, label=label, test_share=data.test_share)


def _text_settings(file: StudyFile, kept: int | None) -> TextSettings:
    given, longest, buckets = file.spec.data.vocabulary, file.spec.data.max_tokens, file.spec.data.hash_buckets
    pruned = bool(file.spec.data.pruned_vocabulary)
    if not isinstance(given, str):
        return TextSettings(vocabulary=given, longest=longest, buckets=buckets, pruned=pruned)
    where = f"{file.label}: data.vocabulary"
    if pruned:
        _require_other_ids(file)
    if given == TEACHER_VOCABULARY:
        name = file.spec.teacher.hugging_face
        if name is None:
            raise RequestError(f"{where} = {given!r} needs teacher.hugging_face, but got {file.spec.teacher.source}")
        teacher = f"{file.label}: teacher.hugging_face"
        place = pretrained_folder(file.folder, name, teacher)
        path, places = place / VOCABULARY, bert_config(place, teacher)["max_position_embeddings"]
        if longest is not None and longest > places:
            rule = f"max_tokens <= {places} (positions of teacher.hugging_face) must hold"
            raise RequestError(f"{file.label}: data: {rule}, but got max_tokens={longest}")
    else:
        path = next((place for place in (file.folder / given, Path(given)) if place.is_file()), file.folder / given)
    pieces = given_pieces(path, longest=longest, where=where)
    return TextSettings(vocabulary=kept, longest=longest, pieces=pieces, buckets=buckets, pruned=pruned)


def _require_other_ids(file: StudyFile) -> None:
    """Require a teacher whose ids of word pieces follow those of the data: trained here, or a BERT in a folder."""
    teacher = file.spec.teacher
    if teacher.hugging_face is not None:
        where = f"{file.label}: teacher.hugging_face"
        bert_config(pretrained_folder(file.folder, teacher.hugging_face, where), where)
    elif not teacher.is_trained:
        rule = "pruned_vocabulary needs a teacher that the study trains, or a BERT in teacher.hugging_face"
        got = f"teacher.{teacher.source}, which knows the ids of all word pieces only"
        raise RequestError(f"{file.label}: data: {rule}, but got {got}")


def _unlabelled(data: DataSection) -> TextFiles | None:
    return None if data.unlabelled is None else TextFiles(path=data.unlabelled, text=data.text_columns)


def _drawing(data: DataSection) -> Drawing:
    masks = data.spec_augment
    return Drawing(
        crop=data.crop,
        erase=data.erase,
        spec_augment=None if masks is None else SpecAugment(**masks.model_dump()),
        mixup=data.mixup,
        cutmix=data.cutmix,
        augment=data.augment,
        views=data.views,
    )
