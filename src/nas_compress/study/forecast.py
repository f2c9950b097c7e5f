"""What a study will cost and whether its budgets can be met, from untrained files and a few timed batches."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from nas_compress.architecture import Architecture
from nas_compress.candidate import cross_entropy
from nas_compress.data.splits import Split
from nas_compress.losses.terms import make_loss
from nas_compress.measurement.complexity import count_macs
from nas_compress.measurement.latency import LatencyMeter
from nas_compress.models.families import build_student
from nas_compress.outcome import Measured
from nas_compress.study.feasibility import Sized, draw_candidates, measure_untrained
from nas_compress.study.workbench import Ingredients
from nas_compress.teacher.teacher import teacher_architecture
from nas_compress.training.loop import train
from nas_compress.training.schedule import planned_epochs

TIMED_BATCHES = 6
OVERHEAD_S = 1.0
"""Seconds of a trial outside training: export, measuring, writing."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One candidate of the space: what its untrained file costs, and the seconds that a trial of it takes."""

    label: str
    measured: Measured
    weight_bits: int
    activation_bits: int
    trial_s: float


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What `check` tells. `within` is, per budget, its text, whether it can be met, and how that is known."""

    points: float
    sized: list[Sized]
    samples: tuple[Sample, ...]
    within: tuple[tuple[str, bool, str], ...]
    teacher_s: float
    study_s: float


def forecast(parts: Ingredients, meter: LatencyMeter) -> Forecast:
    """Build, export and time the smallest, a middle and the largest candidate; nothing is kept."""
    sized, sampled = draw_candidates(parts)
    teacher_s, teacher_macs = _teacher_cost(parts)
    chosen = {"smallest": sized[0], "middle": sized[len(sized) // 2], "largest": sized[-1]}
    samples = tuple(_sample(label, item, parts, meter, teacher_macs) for label, item in chosen.items())
    return Forecast(
        points=sampled.points,
        sized=sized,
        samples=samples,
        within=tuple(_judge(parts, samples, sized)),
        teacher_s=teacher_s,
        study_s=teacher_s + parts.spec.trials * sum(sample.trial_s for sample in samples) / len(samples),
    )


def _sample(label: str, item: Sized, parts: Ingredients, meter: LatencyMeter, teacher_macs: int) -> Sample:
    measured = measure_untrained(item, parts, meter)
    training = parts.spec.training
    epochs = planned_epochs(
        epochs=training.epochs,
        budget=training.budget,
        cap=training.cap,
        macs=measured.macs,
        teacher_macs=teacher_macs or measured.macs,
    )
    return Sample(
        label=label,
        measured=measured,
        weight_bits=item.candidate.weight_bits,
        activation_bits=item.candidate.activation_bits,
        trial_s=OVERHEAD_S + epochs * _epoch_seconds(item.architecture, parts),
    )


def _teacher_cost(parts: Ingredients) -> tuple[float, int]:
    if parts.spec.teacher.factory is not None:
        return 0.0, 0
    architecture = teacher_architecture(parts.spec.teacher, parts.dataset, parts.file.label)
    macs = count_macs(build_student(architecture), parts.dataset.input_shape)
    return parts.spec.teacher.epochs * _epoch_seconds(architecture, parts), macs


def _epoch_seconds(architecture: Architecture, parts: Ingredients) -> float:
    """Seconds of one epoch, from a few batches after a first one that warms up."""
    network = build_student(architecture).to(parts.device)
    _train_batches(network, 1, parts)
    started = time.perf_counter()
    batches = _train_batches(network, TIMED_BATCHES, parts)
    per_batch = (time.perf_counter() - started) / batches
    return per_batch * max(1, len(parts.dataset.train) // parts.spec.training.batch_size)


def _train_batches(network: torch.nn.Module, batches: int, parts: Ingredients) -> int:
    training, whole = parts.spec.training, parts.dataset.train
    count = min(len(whole), batches * training.batch_size)
    few = Split(name="train", inputs=whole.inputs[:count], labels=whole.labels[:count]).to(parts.device)
    train(
        network,
        few,
        parts.dataset.views,
        loss=make_loss(cross_entropy()),
        epochs=1,
        batch_size=training.batch_size,
        learning_rate=training.learning_rate,
        weight_decay=training.weight_decay,
        seed=0,
    )
    return max(1, count // training.batch_size)


def _judge(parts: Ingredients, samples: tuple[Sample, ...], sized: list[Sized]) -> list[tuple[str, bool, str]]:
    told = []
    for budget in parts.spec.budget_list:
        if budget.name == "accuracy":
            told.append((str(budget), True, "known after training only"))
            continue
        best = min(samples, key=lambda sample: sample.measured.figure(budget.name))
        value = best.measured.figure(budget.name)
        how = f"{best.label} candidate: {value:,.4g}"
        if budget.name == "size_bytes":
            share = sum(item.weight_bytes <= budget.limit for item in sized) / len(sized)
            how += f"; the weights of {share:.0%} of {len(sized)} sampled candidates fit"
        told.append((str(budget), budget.violation(value) <= 0, how))
    return told
