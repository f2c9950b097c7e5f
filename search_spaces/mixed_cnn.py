"""Mixed precision: separate bits for each stage, or few bits and sensitive layers promoted (21,120 points).

family (2) x blocks in each of three stages (2 each) x width multiplier (2) x pruning (none, or 2 ratios) x weight bits
and teaching (220): 4 widths in each of 3 stages (64), or 3 base widths with 1, 2 or 4 layers promoted to 8 bits (9);
cross-entropy, or distillation at 2 temperatures, at 3 if all weights have 8 bits, because soft targets harm a student
of few bits (Mishra, Marr 2018, arXiv 1711.05852). Activations have 8 bits, steps are learned in training.
"""

from nas_compress.config.suggest import Suggest
from nas_compress.values.candidate import Candidate, Quantization, cross_entropy, distillation


def suggest(trial: Suggest) -> Candidate:
    """Propose one student."""
    family = trial.suggest_categorical("family", ["resnet", "mobilenet"])
    depths = tuple(trial.suggest_int(f"depth_{stage}", 1, 2) for stage in range(3))
    width = trial.suggest_categorical("width_multiplier", [0.5, 1.0])
    removed = trial.suggest_categorical("pruning_percent", [0, 25, 50])

    # bits: by stage, or one width and a number of exceptions
    if trial.suggest_categorical("mixing", ["stages", "promoted"]) == "stages":
        bits = tuple(trial.suggest_categorical(f"bits_{stage}", [2, 3, 4, 8]) for stage in range(3))
        quantization = Quantization(method="lsq", stage_bits=bits)
    else:
        bits = (trial.suggest_categorical("base_bits", [2, 3, 4]),)
        promoted = trial.suggest_categorical("promoted_layers", [1, 2, 4])
        quantization = Quantization(method="lsq", promoted_layers=promoted)

    losses = cross_entropy()
    if trial.suggest_categorical("teaching", ["cross_entropy", "kd"]) == "kd":
        if min(bits) < 8:
            temperature = trial.suggest_categorical("low_temperature", [1.0, 2.0])
        else:
            temperature = trial.suggest_categorical("temperature", [1.0, 2.0, 4.0])
        losses = distillation(hard_weight=0.5, soft_weight=0.5, temperature=temperature)
    return Candidate(
        family=family,
        depths=depths,
        width_multiplier=width,
        pruning_ratio=removed / 100,
        pruning_criterion="l1" if removed else "uniform",
        weight_bits=max(bits),
        activation_bits=8,
        losses=losses,
        quantization=quantization,
    )
