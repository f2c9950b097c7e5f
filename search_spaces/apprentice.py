"""Students of few bits: taught alone, by KD after a float start, or as apprentices (64 points).

family (2) x width multiplier (2) x weight bits (4) x teaching (4): cross-entropy, KD, and the apprentice's schemes
joint and fixed, which round from the first step on (Mishra, Marr 2018, arXiv 1711.05852). The temperature is 1,
activations have 8 bits, steps are learned in training.
"""

from nas_compress.config.suggest import Suggest
from nas_compress.values.candidate import Candidate, Quantization, Teaching, cross_entropy, distillation

TEACHINGS = {
    "none": Teaching(),
    "kd": Teaching(),
    "joint": Teaching(teacher="apprentice", scheme="joint"),
    "fixed": Teaching(teacher="apprentice", scheme="fixed"),
}


def suggest(trial: Suggest) -> Candidate:
    """Propose one student."""
    family = trial.suggest_categorical("family", ["resnet", "mobilenet"])
    width = trial.suggest_categorical("width_multiplier", [0.5, 1.0])
    bits = trial.suggest_categorical("weight_bits", [2, 3, 4, 8])
    teaching = trial.suggest_categorical("teaching", list(TEACHINGS))
    taught = distillation(hard_weight=0.5, soft_weight=0.5, temperature=1.0)
    return Candidate(
        family=family,
        depths=(1, 1, 1),
        width_multiplier=width,
        weight_bits=bits,
        activation_bits=8,
        quantization=Quantization(method="lsq"),
        losses=cross_entropy() if teaching == "none" else taught,
        teaching=TEACHINGS[teaching],
    )
