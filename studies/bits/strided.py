"""Mixed precision for 28x28 images: a first layer that shrinks them, and bits for each stage (2,352 points).

family (2) x first stride (2) x width multiplier (2) x pruning (none, or 50 %) x bits and teaching (147): 4 widths in
each of 3 stages (64), or 3 base widths with 1, 2 or 4 layers promoted to 8 bits (9), with cross-entropy or distillation
at temperature 1 (1 or 4 if all weights have 8 bits). Activations have 8 bits; steps are learned in training. A stride
of 2 leaves a quarter of the work to later layers, a stride of 4 a sixteenth.
"""

from nas_compress.config.suggest import Suggest
from nas_compress.values.candidate import Candidate, Quantization, cross_entropy, distillation


def suggest(trial: Suggest) -> Candidate:
    """Propose one student."""
    family = trial.suggest_categorical("family", ["resnet", "mobilenet"])
    stride = trial.suggest_categorical("stem_stride", [2, 4])
    width = trial.suggest_categorical("width_multiplier", [1.0, 2.0])
    removed = trial.suggest_categorical("pruning_percent", [0, 50])
    if trial.suggest_categorical("mixing", ["stages", "promoted"]) == "stages":
        bits = tuple(trial.suggest_categorical(f"bits_{stage}", [2, 3, 4, 8]) for stage in range(3))
        quantization = Quantization(method="lsq", stage_bits=bits)
    else:
        bits = (trial.suggest_categorical("base_bits", [2, 3, 4]),)
        quantization = Quantization(
            method="lsq", promoted_layers=trial.suggest_categorical("promoted_layers", [1, 2, 4])
        )
    losses = cross_entropy()
    if trial.suggest_categorical("teaching", ["cross_entropy", "kd"]) == "kd":
        temperature = trial.suggest_categorical("temperature", [1.0, 4.0]) if min(bits) == 8 else 1.0
        losses = distillation(hard_weight=0.5, soft_weight=0.5, temperature=temperature)
    return Candidate(
        family=family,
        depths=(1, 1, 1),
        stem_stride=stride,
        width_multiplier=width,
        pruning_ratio=removed / 100,
        pruning_criterion="l1" if removed else "uniform",
        weight_bits=max(bits),
        activation_bits=8,
        losses=losses,
        quantization=quantization,
    )
