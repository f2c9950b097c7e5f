"""Residual networks of few bytes (36 points): depth (3) x width multiplier (4) x weight bits (3).

Patient distillation (Beyer et al. 2022, arXiv 2106.05237): the teacher's answers to many views have nine tenths of the
loss. Weights have learned steps, activations stay float. Widths from half of the base on are multiples of 16, which
train in half the time of their neighbours; thinner ones are not rounded, because every channel counts there.
"""

from nas_compress.config.suggest import Suggest
from nas_compress.values.candidate import Candidate, Quantization, distillation

DEPTHS = {"1-1-1": (1, 1, 1), "2-2-1": (2, 2, 1), "2-2-2": (2, 2, 2)}


def suggest(trial: Suggest) -> Candidate:
    """Propose one student."""
    multiplier = trial.suggest_categorical("width_multiplier", [0.125, 0.171875, 0.5, 0.625])
    return Candidate(
        family="resnet",
        depths=DEPTHS[trial.suggest_categorical("depths", list(DEPTHS))],
        width_multiplier=multiplier,
        round_to=16 if multiplier >= 0.5 else 1,
        weight_bits=trial.suggest_categorical("weight_bits", [2, 3, 4]),
        quantization=Quantization(method="lsq"),
        losses=distillation(hard_weight=0.1, soft_weight=0.9, temperature=2.0),
    )
