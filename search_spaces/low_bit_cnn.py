"""Small image classifiers with weights of 32 to 2 bits (35,200 points).

The space `cnn` with weights of 4 and 2 bits, whose steps are learned in training, and channels in multiples of 4. The
fastest kernels take multiples of 8, so a smaller file may cost some latency. family (2) x blocks in each of three
stages (2 each) x width multiplier (4) x pruning (none, or 3 ratios by 3 criteria) x precision (5) x teaching
(cross-entropy, label smoothing, or distillation at 3 x 3 settings).
"""

from nas_compress.config.suggest import Suggest
from nas_compress.values.candidate import Candidate, Quantization, cross_entropy, distillation, label_smoothing

PRECISIONS = {"float32": (32, 32), "weights8": (8, 32), "weights4": (4, 32), "weights2": (2, 32), "int8": (8, 8)}


def suggest(trial: Suggest) -> Candidate:
    """Propose one student."""
    family = trial.suggest_categorical("family", ["resnet", "mobilenet"])
    depths = tuple(trial.suggest_int(f"depth_{stage}", 1, 2) for stage in range(3))
    width = trial.suggest_categorical("width_multiplier", [0.25, 0.5, 0.75, 1.0])
    pruning_percent = trial.suggest_int("pruning_percent", 0, 75, step=25)
    criterion = "uniform"
    if pruning_percent:
        criterion = trial.suggest_categorical("criterion", ["l1", "bn_scale", "uniform"])
    weight_bits, activation_bits = PRECISIONS[trial.suggest_categorical("precision", list(PRECISIONS))]
    few = weight_bits < 8  # rounding after training is enough for 8 bits
    teaching = trial.suggest_categorical("teaching", ["cross_entropy", "label_smoothing", "kd"])
    if teaching == "kd":
        soft = trial.suggest_int("soft_percent", 30, 90, step=30) / 100
        temperature = trial.suggest_categorical("temperature", [1.0, 2.0, 4.0])
        losses = distillation(hard_weight=1 - soft, soft_weight=soft, temperature=temperature)
    else:
        losses = label_smoothing() if teaching == "label_smoothing" else cross_entropy()
    return Candidate(
        family=family,
        depths=depths,
        width_multiplier=width,
        round_to=4,
        pruning_ratio=pruning_percent / 100,
        pruning_criterion=criterion,
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        quantization=Quantization(method="lsq") if few else Quantization(),
        losses=losses,
    )
