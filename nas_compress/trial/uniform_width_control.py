"""Control of a searched shape: the same family at equal size, with all layers thinned alike."""

from __future__ import annotations

from dataclasses import replace

from nas_compress.models.macs import count_parameters
from nas_compress.models.shapes_only import shapes_only
from nas_compress.teacher.teacher import Teacher
from nas_compress.trial.context import TrialContext
from nas_compress.trial.shape import student_architecture
from nas_compress.values.architecture import Architecture
from nas_compress.values.candidate import Candidate

HALVINGS = 24
"""Steps of the bisection. Widths are integers, so finer multipliers build the same network."""


def uniform_control(candidate: Candidate, context: TrialContext, *, seed: int) -> Candidate:
    """Replace pruning by a width multiplier, with nearly the candidate's number of parameters.

    A searched shape has to beat a thinner network of the same family (Crowley et al. 2018, arXiv 1810.04622). At equal
    bits, equal parameters are equal bytes of weights. The width step limits how close the two counts get;
    `round_to=1` gets closest. Settings that a candidate inherits, such as its heads, stay as they are. A candidate that
    starts from fresh weights in its whole width is its own control.
    """
    unpruned = replace(
        candidate.pruning, ratio=0.0, criterion="uniform", init="scratch", kept_blocks="first", head_ratio=0.0, rounds=1
    )
    whole = student_architecture(candidate, context, seed=seed)
    settings = whole.settings if candidate.pruning.init == "inherit" else candidate.shape.settings

    def thinned(tried: float) -> Candidate:
        shape = replace(candidate.shape, width_multiplier=tried, settings=settings)
        return replace(candidate, pruning=unpruned, shape=shape)

    multiplier = candidate.shape.width_multiplier
    if candidate.pruning.init == "scratch" and student_architecture(thinned(multiplier), context, seed=seed) == whole:
        return candidate
    wanted = parameter_count(whole, context.teacher)

    def excess(tried: float) -> int:
        return parameter_count(student_architecture(thinned(tried), context, seed=seed), context.teacher) - wanted

    low, high = 0.0, multiplier
    while excess(high) < 0:
        low, high = high, 2 * high
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if excess(middle) >= 0 else (middle, high)
    nearest = min((tried for tried in (low, high) if tried > 0), key=lambda tried: abs(excess(tried)))
    return thinned(nearest)


def parameter_count(architecture: Architecture, teacher: Teacher) -> int:
    """Count the parameters of an architecture, without memory for its weights if the family allows it."""
    with shapes_only():
        return count_parameters(teacher.build(architecture))
