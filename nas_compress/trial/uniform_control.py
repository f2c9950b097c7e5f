"""The control of a searched shape: the same family with every layer cut alike, at equal size."""

from __future__ import annotations

from dataclasses import replace

import torch

from nas_compress.measurement.macs import count_parameters
from nas_compress.teacher.teacher import Teacher
from nas_compress.trial.context import TrialContext
from nas_compress.trial.shape import student_architecture
from nas_compress.values.architecture import Architecture
from nas_compress.values.candidate import Candidate

HALVINGS = 24
"""Steps of the bisection: widths are integers, so that finer multipliers build the same network."""


def uniform_control(candidate: Candidate, context: TrialContext, *, seed: int) -> Candidate:
    """The candidate without pruning, and the width multiplier whose parameter count is nearest to the candidate's.

    "Is it time to nip it in the bud?" (Crowley et al. 2018, arXiv 1810.04622): a thinner network of the same family is
    what any searched shape has to beat. With equal bits equal parameters are equal bytes of weights. Widths still move
    in the candidate's step, so that the count is met only as nearly as that allows; `round_to=1` meets it best.
    """
    plain = replace(
        candidate, pruning_ratio=0.0, pruning_criterion="uniform", init="scratch", kept_blocks="first", head_ratio=0.0
    )
    wanted = parameter_count(student_architecture(candidate, context, seed=seed), context.teacher)

    def excess(multiplier: float) -> int:
        thinner = replace(plain, width_multiplier=multiplier)
        return parameter_count(student_architecture(thinner, context, seed=seed), context.teacher) - wanted

    low, high = 0.0, candidate.width_multiplier
    while excess(high) < 0:
        low, high = high, 2 * high
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if excess(middle) >= 0 else (middle, high)
    nearest = min((multiplier for multiplier in (low, high) if multiplier > 0), key=lambda value: abs(excess(value)))
    return replace(plain, width_multiplier=nearest)


def parameter_count(architecture: Architecture, teacher: Teacher) -> int:
    """The parameters of the student of that architecture, counted without giving it memory where that can be."""
    with torch.device("meta"):
        return count_parameters(teacher.build(architecture))
