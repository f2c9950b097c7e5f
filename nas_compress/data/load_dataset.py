"""Load a data set by name, or from a function of the user."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from nas_compress.callbacks import Notice, Progress, no_progress
from nas_compress.data.assemble import Parts, assemble
from nas_compress.data.audio.parts import SoundSettings, read_sounds
from nas_compress.data.audio.wave_files import SOUNDS, holds_sounds
from nas_compress.data.augment.choose import Drawing, drawn, require_still_targets
from nas_compress.data.augment.protocol import Augmentation, NoAugmentation, is_of_images
from nas_compress.data.augment.shift_and_flip import ShiftAndFlip
from nas_compress.data.augment.transfer_text import TRANSFER_TEXT, transfer_text
from nas_compress.data.augment.user_function import load_user_function
from nas_compress.data.catalogue import DATASETS, DatasetInfo
from nas_compress.data.dataset import Dataset
from nas_compress.data.digits import read_digits
from nas_compress.data.fashion_mnist import read_fashion_mnist
from nas_compress.data.own_preparation import load_preparation
from nas_compress.data.scarce_labels import scarce
from nas_compress.data.several_tasks.parts import TaskChoice
from nas_compress.data.several_tasks.sources import factory_tasks, image_tasks
from nas_compress.data.several_tasks.texts import text_tasks
from nas_compress.data.store.class_folders import find_folder, folder_of_files
from nas_compress.data.store.picture_parts import DEFAULT_SIZE, read_pictures
from nas_compress.data.stratified_split import stratified_split
from nas_compress.data.targets import Kind
from nas_compress.data.text.parts import TextSettings, text_parts
from nas_compress.data.text.sst2 import read_sst2
from nas_compress.data.text.tables import TextFiles, read_texts, read_unlabelled
from nas_compress.data.user_data import read_factory
from nas_compress.errors import RequestError, refusal, require_known

_log = logging.getLogger(__name__)

__all__ = ["DATASETS", "READERS", "DatasetInfo", "load_dataset", "stratified_split"]

READERS: Mapping[str, Callable[[int], Parts]] = {
    "digits": read_digits,
    "fashion-mnist": read_fashion_mnist,
}
"""Readers of the images in the table; each takes the seed of the division."""

TEXT_READERS = {"sst2": read_sst2}
"""Readers of the texts in the table."""


def load_dataset(
    *,
    name: str | None = None,
    factory: str | None = None,
    pictures: str | None = None,
    image_size: int | None = None,
    sound_settings: SoundSettings | None = None,
    texts: TextFiles | None = None,
    text_settings: TextSettings | None = None,
    unlabelled: TextFiles | None = None,
    folder: Path | None = None,
    seed: int = 0,
    shift: int | None = None,
    flip: bool | None = None,
    drawing: Drawing | None = None,
    train_samples: int | None = None,
    labels: int | None = None,
    task: Kind | None = None,
    tasks: Sequence[TaskChoice] = (),
    preprocess: str | None = None,
    where: str = "",
    progress: Progress = no_progress,
    notice: Notice = _log.warning,
) -> Dataset:
    """Load one data set.

    name: a key of DATASETS. factory: "module:callable" of the user. pictures: folder with a folder of
    pictures, or of .wav files, for each class. texts: files of texts. Exactly one of the four must be given.
    image_size: pixels of a side of the pictures, None for 64.
    sound_settings: of .wav files, see `SoundSettings`.
    text_settings: of texts, see `TextSettings`.
    unlabelled: file of texts without labels; a column of labels does not count.
    folder: first place on sys.path while the factory is imported, and of a relative path of pictures.
    seed: of the division into splits.
    shift, flip: augmentation of images; None takes the data set's own, for a factory 0 and False.
    drawing: further transforms; all are then drawn by seed, see `Drawing`.
    train_samples: size of a stratified subset of the training split.
    labels: training samples that keep their label, chosen by seed; None for all.
    task: of a factory's data; None for the one that follows from the targets, see `kind_of_targets`.
    tasks: of several tasks, with their labels; images that ship and functions have named labels.
    preprocess: "module:callable" of the user that returns a module to put before the networks, see `own_preparation`.
    where: the study file's key, for error texts.
    progress: receives the samples that are read into a store, and their number.
    notice: receives a line about a damaged store, which is made again.

    The callable takes no arguments and returns a mapping with train, test and perhaps validation (else 15 % of train).
    Each split is a pair (inputs, targets) or a map-style torch Dataset of (sample, target). Inputs are an array
    (N, ...) of any integer or float type, or a mapping from names to arrays; images are uint8 (N, C, H, W) or
    (N, H, W). Targets are classes (N,) by number or word, 0 or 1 (N, L), masks (N, H, W), or floats (N,) or (N, K).
    `groups` (N,) of train, such as speakers: a drawn validation split takes whole groups only. `unlabelled` has inputs
    alone. Inputs may be a list of texts too, or token ids: see `own_sequences`. A task of the user: see `task_parts`.

    Raises RequestError of one line for data that cannot be used, and RunError if files can neither be found nor
    downloaded.
    """
    if [name, factory, pictures, texts].count(None) != 3:
        got = f"{name=}, {factory=}, {pictures=} and {texts=}"
        raise refusal(f"exactly one of name, factory, pictures and texts must be given, but got {got}", where)
    if tasks and (pictures is not None or name in TEXT_READERS):
        also = '; for SST-2 use text = "sst2" and text_column = "sentence"' if name in TEXT_READERS else ""
        got = f"name = {name!r}" if name in TEXT_READERS else "a folder, whose names are the only labels"
        rule = "several tasks need named labels, of images that ship, of files of texts or of a function"
        raise refusal(f"{rule}, but got {got}{also}", where)
    if seed < 0:
        raise refusal(f"seed >= 0 must hold, but got seed={seed}", where)
    more = () if unlabelled is None else read_unlabelled(unlabelled.path, unlabelled.text, base=folder, where=where)
    settings = text_settings or TextSettings()
    augmentation: Augmentation
    if name is not None:
        require_known("a data set", name, DATASETS, where)
        augmentation = _augmentation_of(name, shift, flip, where)
        if name in TEXT_READERS:
            parts = TEXT_READERS[name](seed, settings=settings, unlabelled=more, where=where, notice=notice)
        else:
            _require_no_texts(name, settings, unlabelled, where)
            parts = READERS[name](seed)
            parts = image_tasks(parts, tasks, where=where) if tasks else parts
    elif texts is not None:
        augmentation = _no_augmentation(shift, flip, where)
        if tasks:
            parts = text_tasks(
                texts,
                tasks,
                settings=settings,
                unlabelled=more,
                base=folder,
                seed=seed,
                where=where,
                notice=notice,
            )
        else:
            parts = text_parts(
                name=texts.path,
                splits=read_texts(texts, base=folder, numbers=task == "regression", seed=seed, where=where),
                settings=settings,
                unlabelled=more,
                kind=task,
                seed=seed,
                where=where,
                notice=notice,
            )
    elif pictures is not None and _are_sounds(pictures, folder, where):
        if image_size is not None:
            raise refusal(f"image_size is for pictures, but got image_size={image_size} for sounds", where)
        _require_no_texts(pictures, settings, unlabelled, where)
        augmentation = _no_augmentation(shift, flip, where, kind="sounds")
        parts = read_sounds(
            find_folder(pictures, base=folder, where=where, kind=SOUNDS),
            name=pictures,
            settings=sound_settings or SoundSettings(),
            seed=seed,
            where=where,
            progress=progress,
            notice=notice,
        )
    elif pictures is not None:
        _require_no_texts(pictures, settings, unlabelled, where)
        if sound_settings not in (None, SoundSettings()):
            raise refusal("seconds, mels and speaker_part are for folders of .wav files, but got pictures", where)
        augmentation = _augmentation(shift or 0, bool(flip), where)
        parts = read_pictures(
            find_folder(pictures, base=folder, where=where),
            name=pictures,
            size=image_size or DEFAULT_SIZE,
            seed=seed,
            where=where,
            progress=progress,
            notice=notice,
        )
    else:
        augmentation = _augmentation(shift or 0, bool(flip), where)
        _require_no_texts(str(factory), TextSettings(), unlabelled, where)
        if tasks:
            parts = factory_tasks(
                str(factory), tasks, folder=folder, settings=settings, seed=seed, where=where, notice=notice
            )
        else:
            parts = read_factory(
                str(factory),
                folder=folder,
                seed=seed,
                kind=task,
                text_settings=settings,
                where=where,
                progress=progress,
                notice=notice,
            )
        if parts.augmentation not in (None, NoAugmentation()):
            if shift or flip or drawing not in (None, Drawing()):
                rule = f"data with a task {parts.task.name!r} of their own must have one augmentation"
                raise refusal(f"{rule}, but got their own and keys of [data]; leave one out", where)
            augmentation = parts.augmentation
        elif not (shift or flip) and (parts.augmentation or not is_of_images(parts.task.signature.inputs)):
            augmentation = NoAugmentation()
    wanted = drawing or Drawing()
    function = None
    if wanted.augment == TRANSFER_TEXT:
        augmentation = _of_texts(parts, wanted, seed, where)
        wanted = Drawing()
    if wanted.augment is not None:
        # `where` names the key of the data
        place = f"{where.rpartition('data.')[0]}data.augment" if where else ""
        function = load_user_function(wanted.augment, folder=folder, where=place)
    try:
        augmentation = drawn(augmentation, wanted, task=parts.task, seed=seed, function=function)
        require_still_targets(augmentation, parts.task)
    except RequestError as error:
        raise refusal(str(error), where) from error
    parts = scarce(parts, train_samples=train_samples, labels=labels, seed=seed, where=where)
    if augmentation.mixes and parts.task.lacks_labels:
        rule = "mixup and cutmix need a label of every sample, but some training samples have none"
        raise refusal(f"{rule}; leave them out", where)
    prepare = None
    if preprocess is not None:
        where = f"{where.rpartition('data.')[0]}data.preprocess" if where else ""
        prepare = load_preparation(preprocess, folder=folder, where=where)
    dataset = assemble(parts, augmentation=augmentation, where=where, prepare=prepare)
    if function is not None:
        function.require_sound(dataset.train.inputs, folder=folder)
    return dataset


def _of_texts(parts: Parts, wanted: Drawing, seed: int, where: str) -> Augmentation:
    """Return the transfer set of texts; RequestError for other inputs, and for further keys of augmentation."""
    if wanted != Drawing(augment=TRANSFER_TEXT, views=wanted.views):
        raise refusal(f"augment = {TRANSFER_TEXT!r} must be the only change of texts; leave out the other keys", where)
    try:
        made = transfer_text(parts.task.signature.inputs, views=wanted.views, seed=seed)
        made.check(parts.task.signature.inputs)
    except RequestError as error:
        raise refusal(str(error), where) from error
    return made


def _require_no_texts(name: str, settings: TextSettings, unlabelled: TextFiles | None, where: str) -> None:
    """Refuse settings of texts for other data."""
    if settings != TextSettings():
        raise refusal(f"vocabulary and max_tokens are for texts, but {name} has none", where)
    if unlabelled is not None:
        rule = "unlabelled must be a file for data by text or a built-in name of texts"
        raise refusal(f"{rule}, but got it for {name}; a function returns its own under the key unlabelled", where)


def _augmentation_of(name: str, shift: int | None, flip: bool | None, where: str) -> Augmentation:
    info = DATASETS[name]
    if info.is_text:
        return _no_augmentation(shift, flip, where)
    if flip and not info.mirrors:
        raise refusal(f"flip must be false for {name} (a mirrored image is another or no class), but got true", where)
    return _augmentation(info.shift if shift is None else shift, info.flip if flip is None else flip, where)


def _are_sounds(folder: str, base: Path | None, where: str) -> bool:
    found = folder_of_files(folder, base=base)
    return found is not None and holds_sounds(found, where)


def _no_augmentation(shift: int | None, flip: bool | None, where: str, *, kind: str = "texts") -> NoAugmentation:
    if shift or flip:
        raise refusal(f"shift and flip are for images, but got {shift=}, {flip=} for {kind}; leave them out", where)
    return NoAugmentation()


def _augmentation(shift: int, flip: bool, where: str) -> ShiftAndFlip:
    if shift < 0:
        raise refusal(f"shift >= 0 must hold, but got shift={shift}", where)
    return ShiftAndFlip(shift=shift, flip=flip)
