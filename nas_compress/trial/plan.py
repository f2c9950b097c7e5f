"""Plan of a trial, settled before its training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from nas_compress.measurement.pipeline import Stopwatch
from nas_compress.training.schedule import planned_epochs
from nas_compress.trial.bit_allocation import planned_bits
from nas_compress.trial.context import TrialContext
from nas_compress.trial.kernel_choice import choose_kernels
from nas_compress.trial.peer_shape import macs_together, peer_shape
from nas_compress.trial.shape import new_student, student_architecture
from nas_compress.trial.validity import CandidateRules, CheckedCandidate
from nas_compress.values.architecture import Architecture
from nas_compress.values.candidate import Candidate
from nas_compress.values.outcome import Measured


@dataclass(frozen=True, kw_only=True)
class TrialPlan:
    """Everything settled before a trial's training.

    candidate: the proposed candidate, with the activation bits of the shipped file.
    seed: of the student's weights and of its training.
    architecture: shape of the student.
    peer: shape of its peers in mutual learning, None without peers.
    layer_bits: weight bits of each layer, by path.
    cost: figures of the untrained file.
    integer_latency_ms: latency of the version with integer kernels if the float version is faster and ships instead.
    epochs: length of a full training.
    """

    candidate: Candidate
    seed: int
    architecture: Architecture
    peer: Architecture | None
    layer_bits: Mapping[str, int]
    cost: Measured
    integer_latency_ms: float | None
    epochs: int


def plan_trial(
    checked: CheckedCandidate, context: TrialContext, *, seed: int, name: str, folder: Path, watch: Stopwatch
) -> tuple[TrialPlan, nn.Module]:
    """Plan a trial and return the plan with the student, untrained and on the CPU.

    name: file name of the model, compressed if it ends in `.xz`. folder: keeps the untrained files.
    """
    candidate = checked.candidate
    context = context.at(candidate.data_size)
    with watch.stage("architecture"):
        student = new_student(candidate, checked.architecture, context.teacher, seed=seed)
    layer_bits = planned_bits(candidate, student, context)
    choice = choose_kernels(
        candidate,
        student,
        folder,
        name=name,
        layer_bits=layer_bits,
        signature=context.dataset.task.signature,
        calibration=context.calibration,
        target=context.target,
        named=context.named,
        watch=watch,
    )
    epochs = planned_epochs(
        epochs=context.training.epochs,
        budget=context.training.budget,
        cap=context.training.cap,
        macs=macs_together(checked, choice.cost.whole_macs, context),
        teacher_macs=context.teacher_macs,
    )
    plan = TrialPlan(
        candidate=choice.candidate,
        seed=seed,
        architecture=checked.architecture,
        peer=checked.peer,
        layer_bits=layer_bits,
        cost=choice.cost,
        integer_latency_ms=choice.integer_latency_ms,
        epochs=epochs,
    )
    return plan, student


def candidate_rules(context: TrialContext, *, seed: int) -> CandidateRules:
    """Return the rules about candidates of a study, after its teacher was trained."""

    def shape(candidate: Candidate) -> Architecture:
        return student_architecture(candidate, context, seed=seed)

    teacher = context.teacher
    return CandidateRules(
        dataset=context.dataset,
        batch_size=context.training.batch_size,
        teacher=teacher.section,
        label=teacher.label,
        own_network=teacher.make,
        build=teacher.build,
        shape=shape,
        peer_shape=lambda candidate: peer_shape(candidate, context.target, shape),
        samples_per_run=context.target.settings.batch,
        epochs=context.training.epochs,
    )
