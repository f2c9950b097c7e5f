"""What every trial of a study shares: data on the device, the teacher, the meter and the study's constants."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from nas_compress.config.schema import TrainingSection
from nas_compress.data.dataset import Dataset, Split
from nas_compress.devices.onnxruntime_cpu.latency import LatencyMeter
from nas_compress.measurement.pipeline import calibration_samples
from nas_compress.teacher.teacher import Teacher
from nas_compress.trial.bit_allocation import plan_bits
from nas_compress.values.candidate import Candidate
from nas_compress.values.metrics import Budget


@dataclass(frozen=True, kw_only=True, eq=False)
class TrialContext:
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


def planned_bits(candidate: Candidate, network: nn.Module, context: TrialContext) -> dict[str, int]:
    """Weight bits of each layer of the candidate's network, by path; promotion asks the teacher once."""
    narrowest = min(candidate.quantization.stage_widths(candidate.weight_bits))
    asks = candidate.quantization.promoted_layers > 0
    return plan_bits(candidate, network, context.teacher.sensitivities(narrowest) if asks else ())


def learning_rate(candidate: Candidate, training: TrainingSection) -> float:
    """The peak of the schedule: inherited weights may have one of their own."""
    own = training.inherit_learning_rate if candidate.init == "inherit" else None
    return training.learning_rate if own is None else own
