"""Prepare a study before its first trial. Cheap checks precede expensive steps."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import torch
from torch import nn

from nas_compress.callbacks import Notice, Progress, no_notice, no_progress
from nas_compress.config.schema import StudySpec, TrainingSection
from nas_compress.config.search_space import (
    Space,
    check_given,
    fixed_space,
    load_space,
    with_sizes,
)
from nas_compress.config.shipped import shipped_folder
from nas_compress.config.study_file import StudyFile
from nas_compress.config.teacher_section import TeacherSection
from nas_compress.data.dataset import Dataset
from nas_compress.devices.named import open_named
from nas_compress.devices.protocol import Device
from nas_compress.devices.table import open_device
from nas_compress.errors import RequestError
from nas_compress.files import make_folder, read_sealed_json, write_bytes
from nas_compress.measurement.named_devices import NamedDevices
from nas_compress.measurement.own_metrics import require_sound_metrics
from nas_compress.measurement.pipeline import Stopwatch, calibration_samples, measure_cost, measure_file, write_file
from nas_compress.models.families import build_student
from nas_compress.models.macs import count_macs
from nas_compress.pruning.pruned_family import build_network
from nas_compress.pruning.unpruned_layers import layers_left_whole
from nas_compress.pruning.value_check import WholeLayers
from nas_compress.runs.checks.model_files import digests_of_teacher
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_baseline, write_baseline
from nas_compress.search.samplers.table import require_sampler
from nas_compress.search.study_data import study_dataset
from nas_compress.search.trial_stopper import require_metrics, study_rule
from nas_compress.tasks.batch import Batch, device_of, one_sample, timed_sizes
from nas_compress.teacher.finite_answers import require_finite_answers
from nas_compress.teacher.given import GivenTeacher
from nas_compress.teacher.obtain import obtain_teacher, teacher_architecture, teacher_maker
from nas_compress.teacher.runtime_network import OnnxNetwork
from nas_compress.teacher.store import ORIGIN
from nas_compress.teacher.teacher import Teacher
from nas_compress.training.objective import require_scales
from nas_compress.training.precision import require_precision
from nas_compress.training.runtime import choose_device
from nas_compress.trial.context import TrialContext
from nas_compress.values.architecture import Architecture
from nas_compress.values.metrics.table import Budget
from nas_compress.values.outcome import Measured
from nas_compress.values.precision import Precision
from nas_compress.values.signature import Signature
from nas_compress.values.text.measured_lengths import SampleSizes

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class StudyParts:
    """Checked parts of a study file. Nothing is trained or written yet.

    find_whole: finds the layers of the user's own teacher that keep all their channels, at most once.
    given: the user's own teacher, None for one that is trained.
    named: the study's further devices. teacher_figures: figures of the teacher's file, None before it was measured.
    """

    file: StudyFile
    space: Space
    dataset: Dataset
    device: torch.device
    target: Device
    find_whole: Callable[[], tuple[WholeLayers, ...]]
    given: GivenTeacher | None
    named: NamedDevices = field(default_factory=NamedDevices)
    teacher_figures: Mapping[str, float] | None = None

    @property
    def spec(self) -> StudySpec:
        """The study's specification."""
        return self.file.spec

    @property
    def whole_layers(self) -> tuple[WholeLayers, ...]:
        """Layers of the user's own teacher that keep all their channels; none of a family.

        RequestError if torch-pruning cannot trace the network, or pruning.keep matches nothing.
        """
        return self.find_whole()

    @property
    def budgets(self) -> tuple[Budget, ...]:
        """The budgets; those relative to the teacher once it was measured."""
        return self.spec.budgets_against(self.teacher_figures)

    @property
    def floor(self) -> float | None:
        """Smallest quality of interest to the sampler: `search.accuracy_floor`, or a budget's if it is higher."""
        quality, floor = self.spec.quality, self.spec.search.accuracy_floor
        if quality is None or self.spec.reward is not None:
            return None
        limits = [budget.limit for budget in self.budgets if budget.name == quality.name]
        return max([*limits, *([] if floor is None else [floor])], default=None)

    @property
    def teacher_quality(self) -> float | None:
        """The teacher's figure of the study's quality; None before it was measured."""
        quality = self.spec.quality
        return None if quality is None else (self.teacher_figures or {}).get(quality.name)

    @property
    def sizes(self) -> SampleSizes:
        """Sizes of the free dimensions of a sample by name, without the batch."""
        return timed_sizes(self.dataset.train.inputs, self.dataset.task.signature.inputs)

    def build(self, architecture: Architecture) -> nn.Module:
        """Build a student with fresh weights, before there is a teacher."""
        make = teacher_maker(self.spec.teacher, self.dataset, folder=self.file.folder, label=self.file.label)
        return build_network(architecture, make, self.dataset.example)


def gather(
    file: StudyFile,
    *,
    dataset: Dataset | None = None,
    progress: Progress = no_progress,
    notice: Notice = _log.warning,
) -> StudyParts:
    """Find the space, the data, the sampler and the teacher's family. Raise RequestError if one is wrong.

    dataset: of `study_dataset`, if it is loaded already. progress, notice: see there.
    """
    spec, where = file.spec, f"{file.label}: "
    spec.declare()  # in a worker process nothing was read
    require_sampler(spec.search.sampler, where + "search.sampler")
    study_rule(spec, where + "search.stop")
    if file.candidate is not None:
        space = fixed_space(file.candidate)
    else:
        space = load_space(
            spec.space, folder=file.folder, shipped=shipped_folder("search_spaces"), where=where + "space"
        )
        space = with_sizes(space, "image_size", spec.data.image_sizes)
        space = with_sizes(space, "vocabulary_size", spec.data.vocabulary_size)
        for number, given in enumerate(spec.search.enqueue):
            check_given(space, given, where=f"{where}search.enqueue[{number}]")
        if spec.search.prior:
            check_given(space, spec.search.prior, where=f"{where}search.prior")
    device, target = (
        choose_device(spec.device),
        open_device(spec.target.name, spec.device_settings, where=f"{where}target"),
    )
    require_precision(spec.training.precision, device, f"{where}training.precision")
    opened = open_named(spec, label=file.label, recorded=file.candidate is not None)
    if dataset is None:
        dataset = study_dataset(file, progress=progress, notice=notice)
    require_metrics(spec, dataset.task, where)
    if spec.teacher.is_trained:
        architecture = teacher_architecture(spec.teacher, dataset, file.label)
        if spec.teacher.bn_sparsity > 0:
            require_scales(build_student(architecture), where=where + "teacher.bn_sparsity")
    named = NamedDevices(opened, notice=notice)
    own = None
    if not spec.teacher.is_trained:
        own = GivenTeacher(
            section=spec.teacher, folder=file.folder, task=dataset.task, batch=dataset.example, label=file.label
        )
    return StudyParts(
        file=file,
        space=space,
        dataset=dataset,
        device=device,
        target=target,
        find_whole=cache(lambda: _whole_layers(file, own)),
        given=own,
        named=named,
    )


def _whole_layers(file: StudyFile, given: GivenTeacher | None) -> tuple[WholeLayers, ...]:
    if given is None:
        return ()
    return layers_left_whole(
        given.copy(), given.batch, keep=file.spec.pruning.keep, where=f"{file.label}: pruning.keep"
    )


def untrained_teacher(parts: StudyParts, notice: Notice = no_notice) -> nn.Module:
    """Return the teacher before its training, or the user's own teacher as it was given.

    notice: receives a line about weights that were found under another key or prefix.
    """
    if parts.given is not None:
        return parts.given.copy(notice)
    return build_student(teacher_architecture(parts.spec.teacher, parts.dataset, parts.file.label))


def measured_against(parts: StudyParts, teacher: Measured | None) -> StudyParts:
    """Return the parts with the teacher's figures, which resolve budgets relative to it."""
    return parts if teacher is None else replace(parts, teacher_figures=teacher.figures)


def write_teacher(
    network: nn.Module, path: Path, *, signature: Signature, calibration: Batch, watch: Stopwatch
) -> nn.Module:
    """Write the teacher's file, and return the network that it must agree with. An ONNX teacher is its own file."""
    if isinstance(network, OnnxNetwork):
        write_bytes(path, network.content)
        return network
    return write_file(network, path, signature=signature, precision=Precision(), calibration=calibration, watch=watch)


def find_teacher(parts: StudyParts, progress: Progress, notice: Notice = _log.warning) -> Teacher:
    """Return the study's teacher. It is trained if it is not in the cache.

    notice: receives a line about each damaged file of the cache, which is made again.
    """
    return obtain_teacher(
        parts.spec.teacher,
        parts.spec.training,
        parts.dataset,
        folder=parts.file.folder,
        label=parts.file.label,
        device=parts.device,
        progress=progress,
        notice=notice,
        find_whole=parts.find_whole,
        given=parts.given,
    )


def make_context(parts: StudyParts, teacher: Teacher) -> TrialContext:
    """Return the context of the trials."""
    spec = parts.spec
    context = _context(parts.dataset, teacher, spec.training, parts.target, parts.device, parts.budgets)
    return replace(context, named=parts.named)


def comparison_context(
    dataset: Dataset, teacher: TeacherSection, training: TrainingSection, *, folder: Path, target: Device
) -> TrialContext:
    """Return a context for trainings outside a study, on the CPU and without budgets.

    The teacher is trained if it is not in the cache. folder: place of the user's own teacher.
    """
    device = torch.device("cpu")
    obtained = obtain_teacher(
        teacher,
        training,
        dataset,
        folder=folder,
        label="comparison",
        device=device,
        progress=no_progress,
    )
    return _context(dataset, obtained, training, target, device, ())


def _context(
    dataset: Dataset,
    teacher: Teacher,
    training: TrainingSection,
    target: Device,
    device: torch.device,
    budgets: tuple[Budget, ...],
) -> TrialContext:
    return TrialContext(
        dataset=dataset,
        teacher=teacher,
        teacher_macs=count_macs(
            teacher.network, one_sample(dataset.train.first(1).inputs, dataset.task.signature.inputs)
        ),
        target=target,
        training=training,
        budgets=budgets,
        device=device,
    )


def baseline(
    folder: RunFolder, teacher: Teacher, dataset: Dataset, target: Device, named: NamedDevices | None = None
) -> Measured:
    """Export and measure the teacher like a student, once per run. Its files are written into the run's teacher/.

    RequestError is raised if an answer to a validation sample is not finite, or if the run began with other weights of
    the user's own teacher.
    """
    known = read_baseline(folder)
    if known is not None:
        _require_first_weights(folder, teacher)
        return known
    validation = dataset.validation.to(device_of(teacher.train_samples.inputs))
    require_finite_answers(teacher.network, validation, dataset.task, name=teacher.name, remedy=teacher.remedy)
    require_sound_metrics(teacher.network, validation, dataset.task, label=teacher.label)
    make_folder(folder.teacher)
    path, watch = folder.teacher / "model.onnx", Stopwatch()
    calibration = calibration_samples(dataset.train)
    device = device_of(teacher.train_samples.inputs)
    network = teacher.network.cpu()
    signature = dataset.task.signature
    deployable = write_teacher(network, path, signature=signature, calibration=calibration, watch=watch)
    cost = measure_cost(
        network, path, signature=signature, activation_bits=32, sample=calibration, target=target, watch=watch
    )
    measured = measure_file(
        deployable,
        path,
        task=dataset.task,
        activation_bits=32,
        cost=cost,
        validation=dataset.validation,
        target=target,
        named=named,
        watch=watch,
        patient=True,
    )
    network.to(device)
    teacher.copy_to(folder.teacher)
    write_baseline(folder, measured, files=digests_of_teacher(folder))
    return measured


def _require_first_weights(folder: RunFolder, teacher: Teacher) -> None:
    """Refuse other weights of the user's own teacher: students of two teachers cannot be compared."""
    path = folder.teacher / ORIGIN
    if teacher.family is not None or not path.is_file():
        return
    if read_sealed_json(path)["made_by"]["weights"] != teacher.weights_digest:
        raise RequestError(
            f"{teacher.name} must have the weights with which the run began, but they differ from those in {path}; "
            "restore them, or use another --out"
        )
