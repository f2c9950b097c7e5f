"""Controls: what a member has to beat, trained at the same budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch

from nas_compress.candidate import Candidate, cross_entropy
from nas_compress.measurement.complexity import count_parameters
from nas_compress.models.families import build_student
from nas_compress.trial.bench import Bench, student_architecture

HALVINGS = 20
"""Steps of the search for an equal size: by then the multiplier is known to 1e-5."""


@dataclass(frozen=True, kw_only=True)
class Control:
    """A control by name: `make` gives the candidate to train in a member's place."""

    summary: str
    make: Callable[[Candidate, Bench, int], Candidate]


def without_teacher(candidate: Candidate, bench: Bench, seed: int) -> Candidate:
    """The same network taught by the labels alone: what the teacher's answers add."""
    return replace(candidate, losses=cross_entropy())


def uniform_width(candidate: Candidate, bench: Bench, seed: int) -> Candidate:
    """The same family, depths, bits and losses, unpruned and scaled evenly to the nearest number of parameters.

    What the shape adds that pruning found (Crowley et al. 2018, arXiv 1810.04622).
    """
    wanted = _parameters(candidate, bench, seed)
    even = replace(candidate, pruning_ratio=0.0, pruning_criterion="uniform")
    low, high = 0.0, 1.0
    while _parameters(replace(even, width_multiplier=high), bench, seed) < wanted:
        low, high = high, 2 * high
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if _parameters(replace(even, width_multiplier=middle), bench, seed) < wanted:
            low = middle
        else:
            high = middle
    tried = [replace(even, width_multiplier=multiplier) for multiplier in (low, high) if multiplier > 0]
    return min(tried, key=lambda it: abs(_parameters(it, bench, seed) - wanted))


CONTROLS: Mapping[str, Control] = {
    "no_teacher": Control(summary="the same network, cross-entropy on the labels alone", make=without_teacher),
    "uniform_width": Control(summary="no pruning, all layers scaled alike to the same size", make=uniform_width),
}
"""Every control by its name; a member that is its own control is not trained twice."""


def _parameters(candidate: Candidate, bench: Bench, seed: int) -> int:
    architecture = student_architecture(candidate, bench.dataset, bench.teacher, seed=seed)
    with torch.device("meta"):
        return count_parameters(build_student(architecture))
