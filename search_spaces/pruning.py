"""Pruning of a residual teacher, and the form of the remaining layers (2,912 points).

channels removed (2 ratios) by criterion and ranking (4 x 3, or uniformly), one or two blocks in each stage, a choice of
the teacher's block if one remains (3), precision (2), and layers that are dense, have zeros (2:4, or 4 patterns at 2
fractions) or are factorised (2 x 2). For a teacher of family `resnet` with two blocks per stage. If a student has fewer
blocks, only the remaining ones enter the importance of channels. Random importance and a uniform width are among the
criteria, as controls.
"""

from nas_compress.config.suggest import Suggest
from nas_compress.values.candidate import Candidate, distillation

CRITERIA = ["l1", "bn_scale", "taylor", "random", "uniform"]
PRECISIONS = {"float32": (32, 32), "weights8": (8, 32)}


def suggest(trial: Suggest) -> Candidate:
    """Propose one student."""
    removed = trial.suggest_categorical("pruning_percent", [30, 60])
    criterion, ranking = trial.suggest_categorical("criterion", CRITERIA), "global"
    if criterion != "uniform":
        ranking = trial.suggest_categorical("ranking", ["global", "local", "isomorphic"])
    blocks = trial.suggest_int("blocks", 1, 2)
    kept = trial.suggest_categorical("kept_blocks", ["first", "last", "importance"]) if blocks == 1 else "first"
    weight_bits, activation_bits = PRECISIONS[trial.suggest_categorical("precision", list(PRECISIONS))]
    zeros, zero_fraction, factorization, rank = "none", 0.0, "none", 1.0
    inside = trial.suggest_categorical("inside", ["dense", "zeros", "factorised"])
    if inside == "zeros":
        zeros, zero_fraction = suggest_zeros(trial)
    elif inside == "factorised":
        factorization = trial.suggest_categorical("factorization", ["low_rank", "tucker"])
        rank = trial.suggest_categorical("rank_fraction", [0.25, 0.5])
    return Candidate(
        family="resnet",
        depths=(blocks,) * 3,
        pruning_ratio=removed / 100,
        pruning_criterion=criterion,
        pruning_ranking=ranking,
        kept_blocks=kept,
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        zero_pattern=zeros,
        zero_fraction=zero_fraction,
        factorization=factorization,
        rank_fraction=rank,
        losses=distillation(hard_weight=0.5, soft_weight=0.5, temperature=2.0),
    )


def suggest_zeros(trial: Suggest) -> tuple[str, float]:
    """A pattern of zeros and their fraction, which is a half for two of each four weights."""
    pattern = trial.suggest_categorical(
        "zero_pattern", ["one_shot", "gradual", "two_four", "targeted_weight", "targeted_unit"]
    )
    return pattern, 0.5 if pattern == "two_four" else trial.suggest_categorical("zero_fraction", [0.5, 0.8])
