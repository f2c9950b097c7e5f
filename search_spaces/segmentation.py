"""U-nets for a class per pixel: blocks, width, pruning and bits, with or without the teacher (288 points).

blocks in each of three stages (2) x stride of the first layer (2) x width multiplier (4) x pruning ratio (3, by l1)
x precision (3) x distillation (2).
"""

from nas_compress.config.suggest import Suggest
from nas_compress.values.candidate import Candidate, LossTerm
from nas_compress.values.family_settings import ConvolutionalSettings

PRECISIONS = {"float32": (32, 32), "weights8": (8, 32), "int8": (8, 8)}
LOSSES = {
    "labels": (LossTerm(name="task_loss"),),
    "kd": (LossTerm(name="task_loss"), LossTerm(name="kd")),
}


def suggest(trial: Suggest) -> Candidate:
    """Propose one student."""
    blocks = trial.suggest_int("blocks", 1, 2)
    stride = trial.suggest_categorical("stem_stride", [1, 2])
    width = trial.suggest_categorical("width_multiplier", [0.25, 0.5, 0.75, 1.0])
    pruning_percent = trial.suggest_int("pruning_percent", 0, 50, step=25)
    weight_bits, activation_bits = PRECISIONS[trial.suggest_categorical("precision", list(PRECISIONS))]
    losses = LOSSES[trial.suggest_categorical("losses", list(LOSSES))]
    return Candidate(
        family="unet",
        depths=(blocks,) * 3,
        settings=ConvolutionalSettings(stem_stride=stride),
        width_multiplier=width,
        pruning_ratio=pruning_percent / 100,
        pruning_criterion="l1" if pruning_percent else "uniform",
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        losses=losses,
    )
