"""Forecast of a study's time and of its budgets, from untrained files and a few timed batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch

from nas_compress.callbacks import Notice, no_notice
from nas_compress.data.dataset import Dataset
from nas_compress.losses.table import TASK_LOSS
from nas_compress.losses.training_loss import TrainingLoss
from nas_compress.measurement.pipeline import calibration_samples
from nas_compress.models.macs import count_macs
from nas_compress.search.preflight.budget_coverage import Share, budget_shares
from nas_compress.search.preflight.feasibility import Reach, Sized, draw_candidates, measure_untrained, within_reach
from nas_compress.search.preflight.teacher_check import check_own_teacher
from nas_compress.search.samplers.ehvi_sampler import SURVEY
from nas_compress.search.setup import StudyParts, untrained_teacher
from nas_compress.search.storage.earlier_runs import require_earlier_runs
from nas_compress.tasks.batch import fitting, rows, to_device, unpadded
from nas_compress.teacher.finite_answers import BATCH
from nas_compress.teacher.logits_cache import MOST_BYTES, answers_bytes
from nas_compress.teacher.obtain import teacher_architecture
from nas_compress.training.loop import train
from nas_compress.training.objective import LossObjective
from nas_compress.training.precision import Products, products_of
from nas_compress.training.schedule import planned_epochs
from nas_compress.trial.bit_allocation import plan_bits
from nas_compress.trial.shape import with_points
from nas_compress.trial.train_student import learns_from_answers
from nas_compress.trial.training import begin_rounding_, products_under_rounding, under_rounding
from nas_compress.values.architecture import Architecture
from nas_compress.values.candidate import Candidate
from nas_compress.values.outcome import Measured

TIMED_BATCHES = 6
FEW_ANSWERS, MANY_ANSWERS = 16, 80
"""Numbers of the teacher's answers that are timed."""

START_S = 5.0
"""Seconds of a run before its teacher and its trials: imports, data and the check of the space."""

FIXED_S = 0.3
"""Seconds of a trial without training and look-ups: accuracy, agreement and the files of its record."""

OVERHEAD_S = 1.0
"""Seconds of a trial without training if none is measured: export, measuring, writing."""

LOOKS_PER_TRIAL = 1.5
"""Look-ups of costs for one proposal of a sampler that uses them, besides the first ones."""

BUSY = 1.25
"""The machine counts as busy if this process needed so many times its processor time."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A candidate of the space with the cost of its untrained file.

    trial_s: seconds of its trial on a quiet machine. look_s: seconds in which its cost was found.
    """

    label: str
    measured: Measured
    weight_bits: int
    activation_bits: int
    trial_s: float
    look_s: float


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Result of `check`.

    teacher: cost of its file, None for the user's own teacher. workers: number of processes of the run.
    slowdown: time that passed over processor time while this was timed; above BUSY, other programs ran.
    answers_s: seconds of the teacher's answers to all views of the training samples, if they are stored.
    study_s, teacher_s, trial_s, answers_s: on a quiet machine.
    """

    points: float
    sized: list[Sized]
    samples: tuple[Sample, ...]
    reaches: tuple[Reach, ...]
    shares: tuple[Share, ...]
    teacher: Measured | None
    teacher_s: float
    trial_s: float
    answers_s: float
    study_s: float
    workers: int
    slowdown: float

    @property
    def is_busy(self) -> bool:
        """True if other programs ran while this was timed."""
        return self.slowdown > BUSY


def forecast(parts: StudyParts, notice: Notice = no_notice, *, workers: int = 1) -> Forecast:
    """Build, export and time the smallest, a middle and the largest candidate. Nothing is kept.

    workers: number of processes of the run; several have one thread each.
    notice: receives a line about weights of the teacher that were found under another key or prefix.
    """
    check_own_teacher(parts, notice)
    require_earlier_runs(parts)
    sized, sampled = draw_candidates(parts)
    answered = any(learns_from_answers(candidate) for candidate in sampled.candidates)
    chosen = {"smallest": sized[0], "middle": sized[len(sized) // 2], "largest": sized[-1]}
    watch = _Watch(parts.device)
    pass_s = _pass_seconds(parts, watch) if answered else 0.0
    data = parts.dataset
    stored = answered and answers_bytes(data.train, data.augmentation, data.task) <= MOST_BYTES
    answers_s = pass_s * data.augmentation.count if stored else 0.0
    with parts.target.provisional() as target, parts.named.provisional() as named, _threads(workers):
        parts = replace(parts, target=target, named=named)
        teacher, teacher_s = _teacher_cost(parts, watch)
        teacher_macs = int(teacher.figure("macs")) if teacher else 0
        live_s = 0.0 if stored else pass_s
        samples = tuple(_sample(label, item, parts, teacher_macs, watch, live_s) for label, item in chosen.items())
        reaches, shares = within_reach(parts, sized), budget_shares(parts, sized)
    trial_s, trials = _mean_trial(sized, list(chosen.values()), samples), parts.spec.trials
    looks = SURVEY + trials * LOOKS_PER_TRIAL if parts.spec.search.sampler == "ehvi" else 0
    look_s = sum(sample.look_s for sample in samples) / len(samples) / watch.slowdown
    return Forecast(
        points=sampled.points,
        sized=sized,
        samples=samples,
        reaches=reaches,
        shares=shares,
        teacher=teacher,
        teacher_s=teacher_s,
        trial_s=trial_s,
        answers_s=answers_s,
        study_s=START_S + teacher_s + answers_s + (trials * trial_s + looks * look_s) / workers,
        workers=workers,
        slowdown=watch.slowdown,
    )


class _Watch:
    """Seconds of work on a quiet machine: the processor time of one thread, or the time that passed for several."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._passed = self._computed = 0.0

    @property
    def slowdown(self) -> float:
        """Time that passed over processor time, at least 1; 1 if nothing was timed in one thread."""
        return max(1.0, self._passed / self._computed) if self._computed else 1.0

    def seconds(self, work: Callable[[], object]) -> float:
        """Return the seconds of a call."""
        passed, computed = time.perf_counter(), time.process_time()
        work()
        passed, computed = time.perf_counter() - passed, time.process_time() - computed
        if self._device.type != "cpu" or computed > passed:  # of a GPU, or of several threads
            return passed
        self._passed, self._computed = self._passed + passed, self._computed + computed
        return computed


@contextmanager
def _threads(workers: int) -> Iterator[None]:
    """Let torch compute inside as a process of the run does: one thread beside other workers."""
    before = torch.get_num_threads()
    if workers > 1:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _mean_trial(sized: Sequence[Sized], chosen: Sequence[Sized], samples: Sequence[Sample]) -> float:
    """Return the mean seconds of a trial, interpolated by parameters between the timed candidates."""
    pairs = sorted((item.parameters, sample.trial_s) for item, sample in zip(chosen, samples, strict=True))
    counts, seconds = zip(*pairs, strict=True)
    return float(np.interp([item.parameters for item in sized], counts, seconds).mean())


def quick_forecast(parts: StudyParts, sized: Sequence[Sized]) -> float:
    """Return the seconds of a study from a few timed batches of its middle candidate; no file is measured.

    parts: their data may have more training samples than the study uses. sized: candidates of the space by size.
    """
    section, middle, watch = parts.spec.teacher, sized[len(sized) // 2], _Watch(parts.device)
    samples = len(parts.dataset.train)
    share = min(samples, parts.spec.data.train_samples or samples) / samples
    teacher_s = 0.0
    if section.is_trained:
        architecture = teacher_architecture(section, parts.dataset, parts.file.label)
        teacher_s = share * _training_seconds(architecture, parts, section.epochs, watch)
    epochs = parts.spec.training.epochs * middle.candidate.teaching.trainings
    training_s = share * _training_seconds(middle.architecture, parts, epochs, watch)
    return START_S + teacher_s + parts.spec.trials * (OVERHEAD_S + training_s)


def duration_in_words(seconds: float) -> str:
    """Return a duration in seconds, minutes or hours.

    >>> duration_in_words(40), duration_in_words(600), duration_in_words(9000)
    ('40 s', '10 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _sample(label: str, item: Sized, parts: StudyParts, teacher_macs: int, watch: _Watch, live_s: float) -> Sample:
    """Time a candidate. live_s: seconds of the teacher in an epoch if its answers are not stored."""
    started = time.perf_counter()
    measured = measure_untrained(item.candidate, item.architecture, parts)
    look_s = time.perf_counter() - started
    training = parts.spec.training
    epochs = planned_epochs(
        epochs=training.epochs,
        budget=training.budget,
        cap=training.cap,
        macs=measured.whole_macs * item.candidate.teaching.trainings,
        teacher_macs=teacher_macs or measured.whole_macs,
    )
    teaching = item.candidate.teaching
    rounding, _ = under_rounding(item.candidate, epochs)
    if teaching.scheme != "fine_tuned":  # which has a float training before the one with fake quantization
        rounding *= teaching.trainings
    epochs *= teaching.trainings
    training_s = _training_seconds(item.architecture, parts, epochs - rounding, watch, macs=measured.whole_macs)
    if rounding:
        training_s += _training_seconds(item.architecture, parts, rounding, watch, rounded=item.candidate)
    if learns_from_answers(item.candidate):
        training_s += epochs * live_s
    return Sample(
        label=label,
        measured=measured,
        weight_bits=item.candidate.precision.weight_bits,
        activation_bits=item.candidate.precision.activation_bits,
        trial_s=FIXED_S + look_s / watch.slowdown + training_s,
        look_s=look_s,
    )


def _teacher_cost(parts: StudyParts, watch: _Watch) -> tuple[Measured | None, float]:
    """Return the cost of the teacher's file and the seconds of its training; nothing for the user's own teacher."""
    section = parts.spec.teacher
    if not section.is_trained:
        return None, 0.0
    architecture = teacher_architecture(section, parts.dataset, parts.file.label)
    plain = Candidate(family=section.family, depths=architecture.depths)
    measured = measure_untrained(plain, architecture, parts)
    return measured, _training_seconds(architecture, parts, section.epochs, watch, macs=measured.whole_macs)


def _training_seconds(
    architecture: Architecture,
    parts: StudyParts,
    epochs: int,
    watch: _Watch,
    *,
    macs: int | None = None,
    rounded: Candidate | None = None,
) -> float:
    """Return the seconds of a training, from a few batches after a warm-up. What a training does once counts once.

    macs: multiply-adds for one sample, which choose the number format; counted if None.
    rounded: the candidate whose fake quantization the network has.
    """
    if not epochs:
        return 0.0
    network, training = parts.build(architecture), parts.spec.training
    data = parts.dataset.fitting(architecture.signature)
    if rounded is not None:
        calibration = calibration_samples(data.train)
        network = with_points(network, rounded, data.example)
        layer_bits = plan_bits(rounded, network, (), samples=calibration)
        network.to(parts.device)
        begin_rounding_(network, rounded, to_device(calibration, parts.device), layer_bits=layer_bits)
        products = products_under_rounding(training)
    else:
        network.to(parts.device)
        if macs is None:
            macs = count_macs(network, rows(data.example, 0, 1))
        products = products_of(training.precision, parts.device, batch_macs=macs * training.batch_size)
    _train_batches(network, 1, parts, data, products)
    few, several = 0, 0

    def train_few() -> None:
        nonlocal few
        few = _train_batches(network, 1, parts, data, products)

    def train_several() -> None:
        nonlocal several
        several = _train_batches(network, TIMED_BATCHES, parts, data, products)

    short, long = watch.seconds(train_few), watch.seconds(train_several)
    once, per_batch = _line((few, short), (several, long))
    batches = max(1, len(parts.dataset.train) // parts.spec.training.batch_size)
    return once + epochs * batches * per_batch


def _pass_seconds(parts: StudyParts, watch: _Watch) -> float:
    """Return the seconds in which the teacher answers one view of the training samples, from a few samples."""
    network, data = untrained_teacher(parts).to(parts.device).eval(), parts.dataset
    some = data.train.first(MANY_ANSWERS).to(parts.device)
    views, several = data.augmentation.over(some.inputs), len(some)
    few = min(FEW_ANSWERS, several)

    def answer(count: int) -> None:
        with torch.inference_mode():
            index = torch.arange(count, device=parts.device)
            network(*unpadded(views.batch(index, 0), some.tokens).values())

    answer(few)
    short, long = watch.seconds(lambda: answer(few)), watch.seconds(lambda: answer(several))
    per_batch, per_sample = _line((few, short), (several, long))
    return len(data.train) * per_sample + -(-len(data.train) // fitting(data.train.inputs, BATCH)) * per_batch


def _line(few: tuple[int, float], several: tuple[int, float]) -> tuple[float, float]:
    """Return the seconds of the start and of each item, from two numbers of items with their seconds."""
    (less, short), (more, long) = few, several
    each = max(long - short, 0.0) / (more - less) if more > less else long / more
    return max(0.0, short - less * each), each


def _train_batches(
    network: torch.nn.Module, batches: int, parts: StudyParts, data: Dataset, products: Products | None
) -> int:
    training, whole = parts.spec.training, data.train
    count = min(len(whole), batches * training.batch_size)
    few = whole.first(count).to(parts.device)
    train(
        network,
        few,
        data.augmentation,
        objective=LossObjective(TrainingLoss(data.task, TASK_LOSS)),
        epochs=1,
        batch_size=training.batch_size,
        learning_rate=training.learning_rate,
        weight_decay=training.weight_decay,
        seed=0,
        products=products,
    )
    return max(1, count // training.batch_size)
