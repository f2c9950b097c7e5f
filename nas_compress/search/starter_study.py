"""A starter study: a commented study.toml and space.py, ready to run."""

from __future__ import annotations

import json
import os
import re
import shlex
from dataclasses import dataclass
from math import prod
from pathlib import Path
from statistics import median

from nas_compress.callbacks import Notice, Progress, no_notice, no_progress
from nas_compress.config.pretrained import PACKAGES
from nas_compress.config.shipped import shipped_folder, shipped_names
from nas_compress.config.study_file import read_study
from nas_compress.data.audio.wave_files import holds_sounds
from nas_compress.data.augment.choose import PER_SAMPLE_NDIM
from nas_compress.data.augment.mixing import MIXABLE
from nas_compress.data.catalogue import DATASETS
from nas_compress.data.dataset import Dataset
from nas_compress.data.load_dataset import load_dataset
from nas_compress.data.store.class_folders import find_folder
from nas_compress.data.store.pictures import sizes_of
from nas_compress.data.text.parts import TextSettings
from nas_compress.data.text.tables import SUFFIXES, TextFiles
from nas_compress.errors import RequestError, printable, require_known
from nas_compress.files import write_text
from nas_compress.models.families import family_named
from nas_compress.search.preflight.feasibility import Sized, draw_candidates
from nas_compress.search.preflight.forecast import duration_in_words, quick_forecast
from nas_compress.search.preflight.teacher_check import check_own_teacher
from nas_compress.search.setup import StudyParts, gather
from nas_compress.search.starter.encoders import encoder_folder, encoder_settings, encoder_teacher
from nas_compress.search.starter.sound_settings import guessed_sounds, sounds_text
from nas_compress.search.starter.templates import (
    BUILT_IN_DATA,
    FEWER,
    FILE_TEACHER,
    FOLDER_TEACHER,
    HEADER,
    OF_AMOUNTS,
    OF_ANY,
    OF_IMAGES,
    OF_PICTURES,
    OF_SPECTROGRAMS,
    OWN_DATA,
    OWN_TEACHER,
    STEM_STRIDE,
    STUDY,
    TIMM_TEACHER,
    TRAINED_TEACHER,
    output_line,
    study_name,
)
from nas_compress.search.starter.text_columns import guessed_columns, mean_length, starter_settings, texts_text
from nas_compress.search.study_data import study_dataset
from nas_compress.tasks.task import Task
from nas_compress.values.metrics.table import METRICS, Budget

FIRST_RUN = 4_000_000
"""Pixels of all training samples from which `init` chooses a part of them: 976 pictures of 64 x 64."""

FIRST_SOUNDS = 16_000_000
"""Samples of all training sounds from which `init` chooses a part of them: 2,000 seconds at 8 kHz."""

FIRST_TOKENS = 120_000
"""Word pieces of all training texts from which `init` chooses a part of them: 3,000 texts of 40."""

FEW_SAMPLES = 256
"""Training samples below which batches are small, so that an epoch has enough steps."""

LEAST_OF_CLASS = 20
"""Samples of a class that the part has on average, at least."""

TEXT_EPOCHS, TEXT_RATE = 4, 0.005
"""Epochs and learning rate of a teacher and of students of texts."""

PICTURE_SIDE = 64
"""Largest side of pictures that `init` chooses, in pixels."""

LEAST_SIDE, PROBED = 8, 64
"""Smallest side that `init` chooses, and pictures whose sides are looked at."""

WIDE_IMAGE = 40
"""Pixels along a side from which the first teacher is narrow and begins with a stride."""

LARGE_IMAGE = 20
"""Pixels along a side from which a first layer with a stride saves time."""

SMALLEST_MASKED = 2
"""Rows or columns from which a mask leaves a part of the input."""

WEIGHTS = ("teacher.safetensors", "teacher.pt", "teacher.pth")
"""Default path of the teacher's weights."""

TIMM = "timm:"
"""Start of the option `--model` for a network of timm."""

PRUNING = re.compile(r'= trial\.suggest_\w+\("pruning_percent"[^\n]*\)')
"""Choice of the pruning ratio in the built-in spaces."""

BN_CRITERION = '"bn_scale"'
"""Name of the criterion in a space. It needs a teacher with batch normalisation."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Choices for one kind of inputs: teacher family with widths and depths, and the space."""

    family: str
    widths: str
    depths: str
    space: str


IMAGES = Kind(family="resnet", widths="32, 64, 128", depths="1, 1, 1", space="cnn")
SERIES = Kind(family="conv1d", widths="32, 64, 128", depths="1, 1, 1", space="series")
PIXELS = Kind(family="unet", widths="16, 32, 64", depths="1, 1, 1", space="segmentation")
VECTORS = Kind(family="mlp", widths="128", depths="2", space="table")
TEXTS = Kind(family="text_cnn", widths="64", depths="1", space="text")


@dataclass(frozen=True, kw_only=True)
class Starter:
    """Options of `init`. `model` and `data` are `module:callable`; `data` may be a built-in name, a folder or a file.

    progress: receives the pictures or samples that are read into a store, and their number.
    model: also `timm:NAME`, a folder of Hugging Face, or a package of an encoder of texts; None for a trained teacher,
    or an ONNX or TorchScript file. output: name or place of one output of the model.
    """

    folder: Path
    data: str
    model: str | None = None
    weights: Path | None = None
    output: str | None = None
    space: str | None = None
    progress: Progress = no_progress

    @property
    def pictures(self) -> Path | None:
        """The folder of pictures, if `data` names one."""
        path = Path(self.data)
        return path if self.data not in DATASETS and path.is_dir() else None

    @property
    def texts(self) -> Path | None:
        """The file of texts, if `data` names one."""
        path = Path(self.data)
        return path if path.suffix in SUFFIXES and path.is_file() else None

    @property
    def encoder(self) -> Path | None:
        """The folder of the encoder of texts, if `model` names one and `data` are texts."""
        return None if self.texts is None else encoder_folder(self.model)

    @property
    def text_settings(self) -> TextSettings:
        """How texts become ids of the teacher."""
        return starter_settings() if self.encoder is None else encoder_settings(self.encoder)

    @property
    def has_file_teacher(self) -> bool:
        """True if the weights alone are the teacher."""
        return self.model is None and self.weights is not None


def write_starter(starter: Starter, notice: Notice = no_notice) -> list[Path]:
    """Write study.toml and space.py into the folder and check both. Return their paths.

    The folder is made if needed. RequestError is raised if a file is in the way or the user's model or data cannot be
    used. Then nothing is left behind.

    notice: receives a line about weights of the teacher that were found under another key or prefix, and the time of
    the first run.
    """
    study, space = starter.folder / "study.toml", starter.folder / "space.py"
    for path in (study, space):
        if path.exists():
            raise RequestError(f"init must not overwrite files, but {path} exists")
    if starter.folder.exists() and not starter.folder.is_dir():
        raise RequestError(f"DIR must be a folder, but {starter.folder} is a file")
    files = _text_files(starter, notice)
    dataset = _dataset(starter, files)
    task = dataset.task
    kind = _kind(task)
    text = _study_text(starter, dataset, kind, files)
    made = not starter.folder.exists()
    try:
        write_text(study, text)
        write_text(space, _space_text(starter, starter.space or kind.space))
        dataset = dataset if starter.encoder is None else study_dataset(read_study(study))  # with students' word pieces
        parts = gather(read_study(study), dataset=dataset)
        check_own_teacher(parts, notice)
        sides = [size for size in task.signature.inputs[0].sample_shape[1:] if isinstance(size, int)]
        if starter.space is None and kind is IMAGES and max(sides, default=0) >= LARGE_IMAGE:
            write_text(space, _space_text(starter, "strided_cnn"))
        parts, sized = _fit_to_teacher(study, space, dataset)
    except BaseException:
        for path in (study, space):
            path.unlink(missing_ok=True)
        if made and starter.folder.is_dir():
            starter.folder.rmdir()
        raise
    expected = duration_in_words(quick_forecast(parts, sized))
    notice(f"expected: about {expected} for {parts.spec.trials} trials on this machine; check says more")
    return [study, space]


def _fit_to_teacher(study: Path, space: Path, dataset: Dataset) -> tuple[StudyParts, list[Sized]]:
    """Draw from the space as `run` does, and return the candidates by size.

    The criterion `bn_scale` is left out if the teacher has no batch normalisation.
    RequestError is raised if the space does not fit the study for another reason.
    """
    try:
        parts = gather(read_study(study), dataset=dataset)
        return parts, draw_candidates(parts)[0]
    except RequestError:
        fitting = space.read_text(encoding="utf-8").replace(f"{BN_CRITERION}, ", "").replace(f", {BN_CRITERION}", "")
        write_text(space, fitting)
        parts = gather(read_study(study), dataset=dataset)
        return parts, draw_candidates(parts)[0]


def _text_files(starter: Starter, notice: Notice) -> TextFiles | None:
    """Return the file of texts with guessed columns, and name these; None for other data."""
    if starter.texts is None:
        return None
    files = guessed_columns(starter.texts, where="--data")
    text = ", ".join(map(str, files.text))
    notice(f"texts of column {text}, labels of column {files.label}; study.toml has both, as text_column, label_column")
    if starter.text_settings.buckets is not None:
        notice("words are hashed (hash_buckets): word pieces need tokenizers, pip install 'nas-compress[text]'")
    return files


def _dataset(starter: Starter, files: TextFiles | None) -> Dataset:
    """Load the data as the written study does, once for all checks."""
    if files is not None:
        return load_dataset(texts=files, text_settings=starter.text_settings, where="--data")
    if starter.pictures is not None:
        pictures = str(starter.pictures.absolute())
        if holds_sounds(starter.pictures, "--data"):
            return load_dataset(
                pictures=pictures, sound_settings=guessed_sounds(pictures), where="--data", progress=starter.progress
            )
        return load_dataset(
            pictures=pictures, image_size=_picture_side(pictures), where="--data", progress=starter.progress
        )
    if ":" not in starter.data:
        require_known("--data", starter.data, DATASETS)
        return load_dataset(name=starter.data, where="--data")
    return load_dataset(factory=starter.data, folder=starter.folder, where="--data", progress=starter.progress)


def _picture_side(folder: str) -> int:
    """Return PICTURE_SIDE, or the median of a few shorter sides if most pictures are smaller."""
    found = find_folder(folder, base=None, where="--data")
    sides = sizes_of(found.root, found.splits["train"].files[:PROBED], where="--data")
    return max(LEAST_SIDE, min(PICTURE_SIDE, int(median(sides))))


def _kind(task: Task) -> Kind:
    """Return the kind of inputs that the built-in families know; RequestError if there is none."""
    if task.signature.inputs[0].log_mel is not None:
        return SERIES
    for kind in (IMAGES, SERIES, VECTORS, PIXELS, TEXTS):
        if family_named(kind.family).fits(task.signature):
            if kind in (IMAGES, TEXTS) and task.row_classes is None:
                inputs = "images" if kind is IMAGES else "texts"
                raise RequestError(
                    f"init has no space for {inputs} with numbers as targets; write space.py with the loss task_loss"
                )
            return kind
    shapes = ", ".join(f"{spec.name} {spec.shape}" for spec in task.signature.inputs)
    raise RequestError(f"init needs one input of a fixed size, but got {shapes}; write both files yourself")


def _fewer(samples: int, classes: int, enough: int) -> str:
    """Return the line that chooses a part of the training samples, empty if a run with all of them takes minutes."""
    count = max(classes * LEAST_OF_CLASS, enough)
    return FEWER.format(count=count, samples=f"{samples:,}") if count < samples else ""


def _study_text(starter: Starter, dataset: Dataset, kind: Kind, files: TextFiles | None) -> str:
    task = dataset.task
    built_in = ":" not in starter.data and starter.pictures is None and files is None
    small = not built_in or starter.data == "digits"
    shape = [size for size in task.signature.inputs[0].sample_shape if isinstance(size, int)]
    wide = kind is IMAGES and not built_in and max(shape[1:]) >= WIDE_IMAGE
    epochs, batch_size = (8 if wide else 14, 32) if small or kind is TEXTS else (4, 256)
    if len(dataset.train) < FEW_SAMPLES:
        batch_size = 8
    metric = METRICS[task.metrics[0]]
    return STUDY.format(
        name=study_name(starter.folder),
        folder=printable(shlex.quote(str(starter.folder))),
        data=_data_text(starter, dataset, kind, files),
        teacher=_teacher_text(starter, task, kind, small=small, wide=wide) + output_line(starter.output),
        epochs=TEXT_EPOCHS if kind is TEXTS else epochs,
        batch_size=batch_size,
        learning_rate=TEXT_RATE if kind is TEXTS else 0.01,
        metric=metric.name,
        limit=f"{Budget(name=metric.name, limit=1.0).rule} = 0.9",
    )


def _data_text(starter: Starter, dataset: Dataset, kind: Kind, files: TextFiles | None) -> str:
    """Return the section `[data]`."""
    task, samples = dataset.task, len(dataset.train)
    shape = [size for size in task.signature.inputs[0].sample_shape if isinstance(size, int)]
    if files is not None:
        path, own = _relative(Path(files.path), starter), starter.encoder is not None
        data = texts_text(files, path=path, settings=starter.text_settings, of_encoder=own)
        return data + _fewer(samples, task.classes or 1, FIRST_TOKENS // mean_length(dataset))
    if starter.pictures is not None and task.signature.inputs[0].log_mel is not None:
        folder = str(starter.pictures.absolute())
        data = sounds_text(_relative(starter.pictures, starter), guessed_sounds(folder), folder)
        data += _fewer(samples, task.classes or 1, FIRST_SOUNDS // shape[-1])
    elif starter.pictures is not None:
        data = OF_PICTURES.format(folder=_relative(starter.pictures, starter), size=shape[-1], half=shape[-1] // 2)
    elif ":" not in starter.data:
        return BUILT_IN_DATA.format(data=starter.data)
    else:
        data = OWN_DATA.format(data=starter.data)
    if kind is IMAGES:
        data += _fewer(samples, task.classes or 1, FIRST_RUN // prod(shape[1:]))
    return data if kind is TEXTS else data + _augmentation(task, kind)


def _teacher_text(starter: Starter, task: Task, kind: Kind, *, small: bool, wide: bool) -> str:
    """Return the section `[teacher]`. small: samples are few or small. wide: images have many pixels."""
    if starter.has_file_teacher:
        return FILE_TEACHER.format(weights=_weights(starter))
    if starter.model is not None and starter.model.startswith(TIMM):
        return TIMM_TEACHER.format(model=starter.model.removeprefix(TIMM), weights=_weights(starter))
    if starter.encoder is not None:
        name = json.dumps(starter.model) if starter.model in PACKAGES else _relative(starter.encoder, starter)
        return encoder_teacher(starter.encoder, name)
    if starter.model is not None and (Path(starter.model) / "config.json").is_file():
        return FOLDER_TEACHER.format(model=_relative(Path(starter.model), starter))
    if starter.model is not None:
        outputs = ", ".join(task.signature.output_names)
        return OWN_TEACHER.format(model=starter.model, weights=_weights(starter), outputs=outputs)
    teacher = TRAINED_TEACHER.format(
        family=kind.family,
        depths=kind.depths,
        widths="16, 32, 64" if kind is IMAGES and (wide or not small) else kind.widths,
        teacher_epochs=TEXT_EPOCHS if kind is TEXTS else 20 if small else 8,
        teacher_learning_rate=TEXT_RATE if kind is TEXTS else 0.003 if small else 0.01,
    )
    return teacher + STEM_STRIDE if wide else teacher


def _augmentation(task: Task, kind: Kind) -> str:
    """Return commented lines with the augmentation that fits the input."""
    (spec,) = task.signature.inputs
    if any(len(each.shape) > PER_SAMPLE_NDIM for each in task.targets):  # pixels must not move without their targets
        return OF_ANY
    lines = OF_IMAGES if kind is IMAGES else ""
    if kind is SERIES or (kind is IMAGES and spec.shape[1] == 1 and spec.dtype.startswith("float")):
        rows, columns = spec.spectrogram_shape or (int(size) for size in spec.shape[-2:])
        lines += OF_SPECTROGRAMS.format(frequency=_mask(rows), time=_mask(columns))
    return lines + (OF_AMOUNTS if spec.dtype in MIXABLE else "") + OF_ANY


def _mask(size: int) -> int:
    """Return a size of masks: an eighth of the whole, 0 if there is no room for one."""
    return 0 if size < SMALLEST_MASKED else max(1, size // 8)


def _weights(starter: Starter) -> str:
    """Return the weights' path relative to the study file's folder, as a string of TOML."""
    found = starter.weights or next((Path(name) for name in WEIGHTS if Path(name).is_file()), None)
    if found is None:
        raise RequestError(f"--model needs --weights, but none are given and there is no {' or '.join(WEIGHTS)}")
    if not found.is_file():
        raise RequestError(f"--weights must be a file, but {found} is not one")
    return _relative(found, starter)


def _relative(path: Path, starter: Starter) -> str:
    """Return a path relative to the study file's folder, as a string of TOML."""
    relative = os.path.relpath(os.path.realpath(path), os.path.realpath(starter.folder))
    return json.dumps(Path(relative).as_posix(), ensure_ascii=False)


def _space_text(starter: Starter, space: str) -> str:
    require_known("--space", space, shipped_names("search_spaces"))
    text = (shipped_folder("search_spaces") / f"{space}.py").read_text(encoding="utf-8")
    body = text.split('"""\n', 1)[1].lstrip("\n")
    if starter.has_file_teacher:
        body = PRUNING.sub("= 0  # pruning needs the layers of a teacher", body)
    return HEADER.format(name=study_name(starter.folder), space=space) + body
