"""What every trial of a study shares: data on the device, the teacher, the meter and the study's constants."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from nas_compress.architecture import Architecture
from nas_compress.candidate import Candidate
from nas_compress.data.splits import Dataset, Split
from nas_compress.deployment import calibration_samples
from nas_compress.errors import RequestError, require_known
from nas_compress.losses.terms import check_terms
from nas_compress.measurement.latency import LatencyMeter
from nas_compress.models.families import family_named
from nas_compress.objective import Budget
from nas_compress.pruning.groups import CRITERIA, ChannelGroup, surviving_fractions
from nas_compress.pruning.widths import student_widths
from nas_compress.spec.schema import TrainingSection
from nas_compress.teacher.teacher import Teacher


@dataclass(frozen=True, kw_only=True, eq=False)
class Bench:
    """The workplace of a study's trials. `teacher_macs` is what Scratch-B spends."""

    dataset: Dataset
    teacher: Teacher
    teacher_macs: int
    meter: LatencyMeter
    training: TrainingSection
    budgets: tuple[Budget, ...]
    device: torch.device

    @cached_property
    def validation(self) -> Split:
        """The validation split on the training device."""
        return self.dataset.validation.to(self.device)

    @cached_property
    def calibration(self) -> Tensor:
        """Training samples that set activation ranges: uint8 (n, C, H, W) on the CPU."""
        return calibration_samples(self.dataset.train)


def check_candidate(candidate: Candidate) -> None:
    """Raise RequestError for names that the candidate uses and nobody knows."""
    family_named(candidate.family)
    require_known("a pruning criterion", candidate.pruning_criterion, CRITERIA)
    check_terms(candidate.losses)


def student_architecture(candidate: Candidate, dataset: Dataset, teacher: Teacher, *, seed: int) -> Architecture:
    """The candidate's shape: its family's widths, cut by the teacher's vote, scaled and rounded."""
    groups = teacher.channel_groups(candidate.pruning_criterion, seed=seed) if candidate.pruning_ratio > 0 else ()
    return shaped(candidate, dataset, groups=groups, teacher_family=teacher.family, teacher_widths=teacher.base_widths)


def shaped(
    candidate: Candidate,
    dataset: Dataset,
    *,
    groups: tuple[ChannelGroup, ...],
    teacher_family: str | None,
    teacher_widths: tuple[int, ...],
) -> Architecture:
    """The candidate's shape under a given vote; a student of the teacher's family starts from the teacher's widths."""
    family = family_named(candidate.family)
    same = candidate.family == teacher_family
    base = teacher_widths if same else family.base_widths
    if len(candidate.depths) != len(base):
        raise RequestError(
            f"depths must have one entry per stage of {candidate.family} ({len(base)}), "
            f"but got depths={candidate.depths}"
        )
    widths = student_widths(
        family.layers(candidate.depths, base),
        groups=groups,
        fractions=surviving_fractions(groups, candidate.pruning_ratio) if groups else (),
        same_family=same,
        width_multiplier=candidate.width_multiplier,
        step=candidate.channel_step,
    )
    return Architecture(
        family=candidate.family,
        input_shape=dataset.input_shape,
        classes=dataset.classes,
        depths=candidate.depths,
        widths=widths,
        mean=dataset.mean,
        std=dataset.std,
        stem_stride=candidate.stem_stride,
    )
