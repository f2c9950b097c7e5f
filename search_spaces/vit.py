"""Small vision transformers: patches, depth, width, heads, pooling, pruning, bits and teaching (24,192 points).

patch size (2) x layers (3) x width multiplier (3) x heads (2) x MLP ratio (2) x pooling (2) x pruning (none with 4 ways
to share weights among layers, or 2 ratios by 2 criteria) x precision (3) x teaching (cross-entropy, or distillation at
3 temperatures, with and without a token of its own). Shared weights make a file smaller, not faster.

Patches of 2 and 4 pixels divide sides of 8, 28 and 32. Patches of 2 make four times as many tokens as patches of 4, and
that much more work: they suit small images, and for larger ones the latency budget decides.

Transformers need a smaller step and more epochs than convolutions: a learning rate of 0.003, and for few samples 40
epochs. Trained from scratch on handwritten digits, a transformer of 58,000 weights then reaches 97 % on the validation
split.
"""

from nas_compress.config.suggest import Suggest
from nas_compress.values.candidate import Candidate, cross_entropy, distillation

PRECISIONS = {"float32": (32, 32), "weights8": (8, 32), "int8": (8, 8)}


def suggest(trial: Suggest) -> Candidate:
    """Propose one student."""
    pruning_percent = trial.suggest_int("pruning_percent", 0, 50, step=25)
    criterion = trial.suggest_categorical("criterion", ["l1", "uniform"]) if pruning_percent else "uniform"
    # layers with shared weights share their widths, so no importance can tell them apart
    shared = ["none", "attention", "mlp", "all"]
    sharing = "none" if pruning_percent else trial.suggest_categorical("sharing", shared)
    weight_bits, activation_bits = PRECISIONS[trial.suggest_categorical("precision", list(PRECISIONS))]
    losses, distillation_token = cross_entropy(), False
    if trial.suggest_categorical("teaching", ["cross_entropy", "kd"]) == "kd":
        temperature = trial.suggest_categorical("temperature", [1.0, 2.0, 4.0])
        losses = distillation(hard_weight=0.5, soft_weight=0.5, temperature=temperature)
        distillation_token = trial.suggest_categorical("distillation_token", [False, True])
    return Candidate(
        family="vit",
        depths=(trial.suggest_int("depth", 2, 4),),
        width_multiplier=trial.suggest_categorical("width_multiplier", [0.5, 0.75, 1.0]),
        pruning_ratio=pruning_percent / 100,
        pruning_criterion=criterion,
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        losses=losses,
        heads=trial.suggest_categorical("heads", [2, 4]),
        mlp_ratio=trial.suggest_categorical("mlp_ratio", [2.0, 4.0]),
        patch_size=trial.suggest_categorical("patch_size", [2, 4]),
        pooling=trial.suggest_categorical("pooling", ["mean", "class_token"]),
        distillation_token=distillation_token,
        sharing=sharing,
    )
