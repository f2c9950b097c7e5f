"""Initial ranges of trained quantization."""

from __future__ import annotations

import pytest
import torch

from nas_compress.quantization.trainable_modules import ActivationQuantizer
from nas_compress.trial.bit_allocation import planned_bits
from nas_compress.trial.context import TrialContext
from nas_compress.trial.shape import new_student, student_architecture
from nas_compress.trial.training import begin_rounding_
from nas_compress.values.candidate import Candidate
from nas_compress.values.precision import Quantization


@pytest.mark.parametrize("method", ["lsq", "ste"])
def test_rounding_is_learned_from_the_ranges_that_were_asked_for(method: str, context: TrialContext) -> None:
    def scales(ranges: str) -> torch.Tensor:
        candidate = Candidate(
            family="resnet",
            depths=(1, 1, 1),
            width_multiplier=0.5,
            weight_bits=4,
            activation_bits=4,
            quantization=Quantization(method=method, ranges=ranges),
        )
        architecture = student_architecture(candidate, context, seed=0)
        student = new_student(candidate, architecture, context.teacher, seed=0)
        layer_bits = planned_bits(candidate, student, context)
        begin_rounding_(student, candidate, context.calibration, layer_bits=layer_bits)
        parts = [module for module in student.modules() if isinstance(module, ActivationQuantizer)]
        return torch.tensor([float(part.scale_and_zero_point()[0]) for part in parts])

    whole, least_error, not_given = scales("min_max"), scales("mse"), scales("")
    assert torch.equal(not_given, least_error)
    # 4 bits: clipping a few large values is better than coarse steps for all
    assert (least_error <= whole + 1e-6).all() and (least_error < 0.95 * whole).any()
