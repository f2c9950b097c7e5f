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
from nas_compress.config.shipped import shipped_folder, shipped_names
from nas_compress.config.study_file import read_study
from nas_compress.data.augment.choose import PER_SAMPLE_NDIM
from nas_compress.data.augment.mixing import MIXABLE
from nas_compress.data.catalogue import DATASETS
from nas_compress.data.dataset import Dataset
from nas_compress.data.load_dataset import load_dataset
from nas_compress.data.store.picture_parts import find_folder
from nas_compress.data.store.pictures import sizes_of
from nas_compress.errors import RequestError, printable, require_known
from nas_compress.files import write_text
from nas_compress.models.families import family_named
from nas_compress.search.preflight.feasibility import Sized, draw_candidates
from nas_compress.search.preflight.forecast import duration_in_words, quick_forecast
from nas_compress.search.preflight.teacher_check import check_own_teacher
from nas_compress.search.setup import StudyParts, gather
from nas_compress.tasks.task import Task
from nas_compress.values.metrics.table import METRICS, Budget

FIRST_RUN = 4_000_000
"""Pixels of all training samples from which `init` chooses a part of them: 976 pictures of 64 x 64."""

LEAST_OF_CLASS = 20
"""Samples of a class that the part has on average, at least."""

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

STUDY = """\
# {name}: which small students of my network are best?
#   nas-compress check {folder}     feasible budgets and expected hours
#   nas-compress run {folder}       search; the same command continues after any stop
name = "{name}"
space = "space.py"              # next to this file: the search space
trials = 24                     # in total; a larger number continues the same study
objectives = ["{metric}", "latency_ms", "size_bytes"]    # nas-compress list metrics
seed = 0

[data]
{data}

[teacher]
{teacher}

[training]                      # of every trial, from scratch; never searched
epochs = {epochs}
batch_size = {batch_size}
learning_rate = 0.01            # the peak of one cycle

[search]
sampler = "ehvi"                # nas-compress list samplers

# [budgets]                     # limits; a trial that breaks one ends before training
# size_bytes = {{ at_most = 64000 }}
# latency_ms = {{ at_most = 0.1 }}
# {metric} = {{ {limit} }}
"""

OWN_DATA = """\
factory = "{data}"    # returns {{"train": (inputs, labels), "test": (inputs, labels)}}"""

OF_PICTURES = """\
folder = {folder}          # a folder for each class; or train, val and test with such folders
image_size = {size}                 # pixels of a side; larger pictures are cropped to a square and shrunk"""

FEWER = """
train_samples = {count}            # of {samples}, for a first run of minutes; remove this line to train on all"""

OF_IMAGES = """
# shift = 1                     # augmentation of training samples: moved by up to this many pixels
# flip = true                   # mirrored, if a mirrored image keeps its class
# crop = 0.5                    # a part of at least this share of the area, resized
# erase = 0.25                  # a rectangle of the mean, with this probability
# cutmix = 1.0                  # a rectangle of another sample, with soft labels"""

OF_SPECTROGRAMS = """
# spec_augment = {{ frequency = {frequency}, time = {time} }}    # spectrograms: masks"""

OF_AMOUNTS = """
# mixup = 0.2                   # mixed with another sample, with soft targets"""

OF_ANY = """
# augment = "my_data:augment"   # your function of (batch, generator)
# views = 16                    # random views of each sample, one for each epoch"""

BUILT_IN_DATA = """\
name = "{data}"                 # nas-compress list data
# train_samples = 500           # fewer, for a quick start"""

OWN_TEACHER = """\
factory = "{model}"    # returns an nn.Module: raw samples in, {outputs} out
weights = {weights}           # a state dict: .safetensors, or readable by torch.load(weights_only=True)"""

FILE_TEACHER = """\
weights = {weights}           # an ONNX or TorchScript file: it teaches by its answers"""

TIMM_TEACHER = """\
timm = "{model}"                # built for the size, channels and classes of the data
weights = {weights}           # a state dict or a training checkpoint"""

FOLDER_TEACHER = """\
hugging_face = {model}        # a local folder with config.json and weights"""

STEM_STRIDE = """
stem_stride = 2                 # the first layer halves the sides"""

TRAINED_TEACHER = """\
family = "{family}"               # trained once and kept; nas-compress list families
widths = [{widths}]
depths = [{depths}]
epochs = {teacher_epochs}
learning_rate = {teacher_learning_rate}"""

HEADER = '''"""Search space of {name}. Edit it freely; nas-compress check prints its size.

suggest(trial) is called for each trial. A choice inside an `if` is made only if the condition holds. A changed space is
a new study.
"""
# Copied from the built-in space {space}.
'''


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


@dataclass(frozen=True, kw_only=True)
class Starter:
    """Options of `init`. `model` and `data` are `module:callable`; `data` may be a built-in name or a folder.

    progress: receives the pictures or samples that are read into a store, and their number.
    model: also `timm:NAME`, or a folder of Hugging Face; None for a trained teacher, or an ONNX or TorchScript file.
    """

    folder: Path
    data: str
    model: str | None = None
    weights: Path | None = None
    space: str | None = None
    progress: Progress = no_progress

    @property
    def pictures(self) -> Path | None:
        """The folder of pictures, if `data` names one."""
        path = Path(self.data)
        return path if self.data not in DATASETS and path.is_dir() else None

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
    dataset = _dataset(starter)
    task = dataset.task
    kind = _kind(task)
    text = _study_text(starter, task, kind, len(dataset.train))
    made = not starter.folder.exists()
    try:
        write_text(study, text)
        write_text(space, _space_text(starter, starter.space or kind.space))
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


def _dataset(starter: Starter) -> Dataset:
    """Load the data as the written study does, once for all checks."""
    if starter.pictures is not None:
        pictures = str(starter.pictures.absolute())
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
    for kind in (IMAGES, SERIES, VECTORS, PIXELS):
        if family_named(kind.family).fits(task.signature):
            if kind is IMAGES and task.row_classes is None:
                raise RequestError(
                    "init has no space for images with numbers as targets; write space.py with the loss task_loss"
                )
            return kind
    shapes = ", ".join(f"{spec.name} {spec.shape}" for spec in task.signature.inputs)
    raise RequestError(f"init needs one input of a fixed size, but got {shapes}; write both files yourself")


def _fewer(samples: int, classes: int, pixels: int) -> str:
    """Return the line that chooses a part of the training samples, empty if a run with all of them takes minutes."""
    count = max(classes * LEAST_OF_CLASS, FIRST_RUN // pixels)
    return FEWER.format(count=count, samples=f"{samples:,}") if count < samples else ""


def _study_text(starter: Starter, task: Task, kind: Kind, samples: int) -> str:
    built_in = ":" not in starter.data and starter.pictures is None
    small = not built_in or starter.data == "digits"
    shape = [size for size in task.signature.inputs[0].sample_shape if isinstance(size, int)]
    data = (BUILT_IN_DATA if built_in else OWN_DATA).format(data=starter.data)
    if starter.pictures is not None:
        data = OF_PICTURES.format(folder=_relative(starter.pictures, starter), size=shape[-1])
    if kind is IMAGES and not built_in:
        data += _fewer(samples, task.classes or 1, prod(shape[1:]))
    if not built_in:
        data += _augmentation(task, kind)
    wide = kind is IMAGES and not built_in and max(shape[1:]) >= WIDE_IMAGE
    if starter.has_file_teacher:
        teacher = FILE_TEACHER.format(weights=_weights(starter))
    elif starter.model is not None and starter.model.startswith(TIMM):
        teacher = TIMM_TEACHER.format(model=starter.model.removeprefix(TIMM), weights=_weights(starter))
    elif starter.model is not None and (Path(starter.model) / "config.json").is_file():
        teacher = FOLDER_TEACHER.format(model=_relative(Path(starter.model), starter))
    elif starter.model is not None:
        outputs = ", ".join(task.signature.output_names)
        teacher = OWN_TEACHER.format(model=starter.model, weights=_weights(starter), outputs=outputs)
    else:
        teacher = TRAINED_TEACHER.format(
            family=kind.family,
            depths=kind.depths,
            widths="16, 32, 64" if wide or not small else kind.widths,
            teacher_epochs=20 if small else 8,
            teacher_learning_rate=0.003 if small else 0.01,
        )
        if wide:
            teacher += STEM_STRIDE
    epochs, batch_size = (8 if wide else 14, 32) if small else (4, 256)
    metric = METRICS[task.metrics[0]]
    return STUDY.format(
        name=_name(starter.folder),
        folder=printable(shlex.quote(str(starter.folder))),
        data=data,
        teacher=teacher,
        epochs=epochs,
        batch_size=batch_size,
        metric=metric.name,
        limit=f"{Budget(name=metric.name, limit=1.0).rule} = 0.9",
    )


def _augmentation(task: Task, kind: Kind) -> str:
    """Return commented lines with the augmentation that fits the input."""
    (spec,) = task.signature.inputs
    if any(len(each.shape) > PER_SAMPLE_NDIM for each in task.targets):  # pixels must not move without their targets
        return OF_ANY
    lines = OF_IMAGES if kind is IMAGES else ""
    if kind is SERIES or (kind is IMAGES and spec.shape[1] == 1 and spec.dtype.startswith("float")):
        rows, columns = (int(size) for size in spec.shape[-2:])
        lines += OF_SPECTROGRAMS.format(frequency=_mask(rows), time=_mask(columns))
    return lines + (OF_AMOUNTS if spec.dtype in MIXABLE else "") + OF_ANY


def _mask(size: int) -> int:
    """Return a size of masks: an eighth of the whole, 0 if there is no room for one."""
    return 0 if size < SMALLEST_MASKED else max(1, size // 8)


def _name(folder: Path) -> str:
    """Return the folder's name with a hyphen for characters that a study's name must not have."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(os.path.realpath(folder)).name)
    return re.sub(r"^[^A-Za-z0-9]+", "", name) or "study"


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
    return HEADER.format(name=_name(starter.folder), space=space) + body
