"""Learning rate and number of epochs of a training."""

from __future__ import annotations

import math


def learning_rate_at(step: int, *, steps: int, peak: float, warmup: float = 0.15) -> float:
    """Return the rate of one cycle: linear to `peak` over the first `warmup` of all steps, then a cosine to near 0."""
    rising = max(1, round(steps * warmup))
    if step < rising:
        return peak * (step + 1) / rising
    progress = (step + 0.5 - rising) / max(1, steps - rising)
    return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def epochs_under_rounding(epochs: int) -> int:
    """Return the number of final epochs with fake quantization: a quarter of all epochs, at least 1.

    >>> [epochs_under_rounding(epochs) for epochs in (1, 4, 14, 40)]
    [1, 1, 4, 10]
    """
    return max(1, math.floor(epochs / 4 + 0.5))


def planned_epochs(*, epochs: int, budget: str, cap: float, macs: int, teacher_macs: int) -> int:
    """Return the epochs of one trial: the same for all (Scratch-E), or by the teacher's compute, capped (Scratch-B).

    Liu et al. 2019, arXiv 1810.05270: `int(E * macs_teacher / macs_student)`, here between E and `cap * E`.
    """
    if budget == "scratch_e":
        return epochs
    # whole numbers: as a float, 100 epochs at a ratio of 1.15 would be 114
    return max(epochs, min(epochs * teacher_macs // max(1, macs), int(epochs * cap)))
