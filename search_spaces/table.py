"""Small perceptrons for tables: width, depth, residual blocks, pruning and bits (450 points).

residual or plain (2) x blocks (1 to 3) x width multiplier (5) x pruning ratio (0 to 50 %, 3 steps, by l1) x
precision (float32, weights of 8, 4 or 2 bits, and 8 bits with 8-bit activations: 5).
"""

from nas_compress.config.suggest import Suggest
from nas_compress.values.candidate import Candidate, LossTerm
from nas_compress.values.family_settings import PerceptronSettings

PRECISIONS = {"float32": (32, 32), "weights8": (8, 32), "weights4": (4, 32), "weights2": (2, 32), "int8": (8, 8)}


def suggest(trial: Suggest) -> Candidate:
    """Propose one student."""
    residual = trial.suggest_categorical("residual", [False, True])
    blocks = trial.suggest_int("blocks", 1, 3)
    width = trial.suggest_categorical("width_multiplier", [0.125, 0.25, 0.5, 0.75, 1.0])
    pruning_percent = trial.suggest_int("pruning_percent", 0, 50, step=25)
    weight_bits, activation_bits = PRECISIONS[trial.suggest_categorical("precision", list(PRECISIONS))]
    return Candidate(
        family="mlp",
        depths=(blocks,),
        settings=PerceptronSettings(residual=residual),
        width_multiplier=width,
        pruning_ratio=pruning_percent / 100,
        pruning_criterion="l1" if pruning_percent else "uniform",
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        losses=(LossTerm(name="task_loss"),),
    )
