"""Small students of four widths, float or integer, with or without the teacher (16 points)."""

from nas_compress import Candidate
from nas_compress.values.candidate import cross_entropy, distillation


def suggest(trial):
    """Propose one student."""
    bits = trial.suggest_categorical("bits", [8, 32])
    taught = trial.suggest_categorical("taught", [True, False])
    return Candidate(
        family="resnet",
        depths=(1, 1, 1),
        width_multiplier=trial.suggest_categorical("width", [0.25, 0.5, 0.75, 1.0]),
        weight_bits=bits,
        activation_bits=bits,
        losses=distillation(hard_weight=0.1, soft_weight=0.9, temperature=2.0) if taught else cross_entropy(),
    )
