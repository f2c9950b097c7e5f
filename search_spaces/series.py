"""Convolutions over time: kernel, dilation, depthwise blocks, depth, width and bits (1,440 points).

kernel size (3) x dilation growth (2) x full or depthwise (2) x blocks in each of three stages (2) x width
multiplier (5) x pruning ratio (3, by l1) x precision (4).
"""

from nas_compress.config.suggest import Suggest
from nas_compress.values.candidate import Candidate, LossTerm
from nas_compress.values.family_settings import SeriesSettings

PRECISIONS = {"float32": (32, 32), "weights8": (8, 32), "weights4": (4, 32), "int8": (8, 8)}


def suggest(trial: Suggest) -> Candidate:
    """Propose one student."""
    kernel = trial.suggest_categorical("kernel_size", [3, 5, 9])
    growth = trial.suggest_int("dilation_growth", 1, 2)
    depthwise = trial.suggest_categorical("depthwise", [False, True])
    blocks = trial.suggest_int("blocks", 1, 2)
    width = trial.suggest_categorical("width_multiplier", [0.125, 0.25, 0.5, 0.75, 1.0])
    pruning_percent = trial.suggest_int("pruning_percent", 0, 50, step=25)
    weight_bits, activation_bits = PRECISIONS[trial.suggest_categorical("precision", list(PRECISIONS))]
    return Candidate(
        family="conv1d",
        depths=(blocks,) * 3,
        settings=SeriesSettings(kernel_size=kernel, dilation_growth=growth, depthwise=depthwise),
        width_multiplier=width,
        pruning_ratio=pruning_percent / 100,
        pruning_criterion="l1" if pruning_percent else "uniform",
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        losses=(LossTerm(name="task_loss"),),
    )
