"""The space of fashion-mnist.csv, recorded whole (96 points).

family (2) x blocks in the last stage (2) x width multiplier (3) x pruning (2) x precision (2) x teaching (2). The first
layer has stride 4, which leaves a sixteenth of the work to the others.
"""

from nas_compress.config.suggest import Suggest
from nas_compress.values.candidate import Candidate, cross_entropy, distillation

CHOICES = {
    "family": ("resnet", "mobilenet"),
    "depth_2": (1, 2),
    "width_multiplier": (0.25, 0.5, 1.0),
    "pruning_percent": (0, 30),
    "precision": ("float32", "int8"),
    "teaching": ("cross_entropy", "kd"),
}
PRECISIONS = {"float32": (32, 32), "int8": (8, 8)}
TEACHINGS = {
    "cross_entropy": cross_entropy(),
    "kd": distillation(hard_weight=0.1, soft_weight=0.9, temperature=4.0),
}


def suggest(trial: Suggest) -> Candidate:
    """Propose one student."""
    family = trial.suggest_categorical("family", CHOICES["family"])
    depth_2 = trial.suggest_int("depth_2", 1, 2)
    width = trial.suggest_categorical("width_multiplier", CHOICES["width_multiplier"])
    pruning = trial.suggest_int("pruning_percent", 0, 30, step=30)
    weight_bits, activation_bits = PRECISIONS[trial.suggest_categorical("precision", CHOICES["precision"])]
    teaching = trial.suggest_categorical("teaching", CHOICES["teaching"])
    return Candidate(
        family=family,
        depths=(1, 1, depth_2),
        stem_stride=4,
        width_multiplier=width,
        pruning_ratio=pruning / 100,
        pruning_criterion="l1" if pruning else "uniform",
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        losses=TEACHINGS[teaching],
    )
