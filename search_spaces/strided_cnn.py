"""Classifiers of images of 28x28 and more, with a first layer that shrinks the image (13,440 points).

family (2) x first stride (2) x blocks in each of three stages (2 each) x width multiplier (4) x pruning (none, or 2
ratios by 2 criteria) x precision (3) x teaching (cross-entropy, or distillation at 2 x 3 settings). A stride of 2
leaves a quarter of the work to every layer, a stride of 4 a sixteenth: a search takes an hour on a CPU instead of a
day.
"""

from nas_compress.config.suggest import Suggest
from nas_compress.values.candidate import Candidate, cross_entropy, distillation

BITS = {"float32": (32, 32), "weights8": (8, 32), "int8": (8, 8)}


def suggest(trial: Suggest) -> Candidate:
    """Propose one student."""
    criterion, losses = "uniform", cross_entropy()
    removed = trial.suggest_categorical("pruning_percent", [0, 25, 50])
    if removed:
        criterion = trial.suggest_categorical("criterion", ["l1", "bn_scale"])
    if trial.suggest_categorical("teaching", ["cross_entropy", "kd"]) == "kd":
        soft = trial.suggest_categorical("soft_percent", [50, 90]) / 100
        temperature = trial.suggest_categorical("temperature", [1.0, 2.0, 4.0])
        losses = distillation(hard_weight=1 - soft, soft_weight=soft, temperature=temperature)
    weight_bits, activation_bits = BITS[trial.suggest_categorical("precision", list(BITS))]
    return Candidate(
        family=trial.suggest_categorical("family", ["resnet", "mobilenet"]),
        depths=tuple(trial.suggest_int(f"depth_{stage}", 1, 2) for stage in range(3)),
        stem_stride=trial.suggest_categorical("stem_stride", [2, 4]),
        width_multiplier=trial.suggest_categorical("width_multiplier", [0.5, 1.0, 1.5, 2.0]),
        pruning_ratio=removed / 100,
        pruning_criterion=criterion,
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        losses=losses,
    )
