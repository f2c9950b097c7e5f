"""Load the data of a study as its file says."""

from __future__ import annotations

import logging
from dataclasses import replace

from nas_compress.callbacks import Notice, Progress, no_progress
from nas_compress.config.schema import DataSection, StudySpec
from nas_compress.config.study_file import StudyFile
from nas_compress.data.audio.parts import SoundSettings
from nas_compress.data.augment.choose import Drawing
from nas_compress.data.augment.spectrograms import SpecAugment
from nas_compress.data.dataset import Dataset
from nas_compress.data.load_dataset import load_dataset
from nas_compress.data.several_tasks.parts import TaskChoice
from nas_compress.data.text.parts import TextSettings
from nas_compress.data.text.tables import TextFiles
from nas_compress.measurement.own_metrics import with_own_metrics
from nas_compress.tasks.class_weights import sampling_weights, with_class_weights
from nas_compress.tasks.task import Task

_log = logging.getLogger(__name__)


def study_dataset(file: StudyFile, *, progress: Progress = no_progress, notice: Notice = _log.warning) -> Dataset:
    """Load the data of a study; its task measures the figures that the study names.

    Several sizes of pictures are loaded; the result has the largest one, and the others as its `sizes`.
    progress, notice: of data that are read into a store. RequestError if the data cannot be used.
    """
    size = file.spec.data.image_size
    if not isinstance(size, tuple):
        return _at_size(file, size, progress, notice)
    *smaller, largest = sorted(size)
    others = {each: _at_size(file, each, progress, notice) for each in smaller}
    return replace(_at_size(file, largest, progress, notice), sizes=others)


def _at_size(file: StudyFile, size: int | None, progress: Progress, notice: Notice) -> Dataset:
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
        text_settings=TextSettings(
            vocabulary=spec.data.vocabulary, longest=spec.data.max_tokens, buckets=spec.data.hash_buckets
        ),
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
                texts=None if task.text is None else TextFiles(path=task.text, text=(task.text_column or "text",)),
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
