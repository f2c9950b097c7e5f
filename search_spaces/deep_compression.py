"""Fewer channels, zeros among the remaining weights, and few values for the others (1,080 points).

width multiplier (3) x channels removed (none, or 2 ratios) x zeros (none, 2:4, or one pattern at 3 fractions) x bits
(3) x storage (a codebook of 2^bits values for each layer, or integers with learned steps) x kernels (float or integer)
x teaching (2). After Deep Compression (Han et al. 2016, arXiv 1510.00149). Use it with `form = "compressed"`, whose
entropy coder replaces the paper's Huffman tables. Everything is learned in a single training.
"""

from nas_compress.config.suggest import Suggest
from nas_compress.values.candidate import Candidate, Quantization, cross_entropy, distillation

ACTIVATION_BITS = {"float": 32, "integer": 8}
FORMATS = {"codebook": "codebook", "steps": "integer"}


def suggest(trial: Suggest) -> Candidate:
    """Propose one student."""
    width = trial.suggest_categorical("width_multiplier", [0.5, 0.75, 1.0])
    removed = trial.suggest_categorical("pruning_percent", [0, 25, 50])
    pattern = trial.suggest_categorical("zero_pattern", ["none", "two_four", "gradual"])
    zeros = {"none": 0.0, "two_four": 0.5}.get(pattern)
    if zeros is None:
        zeros = trial.suggest_categorical("zero_percent", [50, 80, 90]) / 100
    bits = trial.suggest_categorical("bits", [2, 3, 4])
    storage = trial.suggest_categorical("storage", list(FORMATS))
    kernels = trial.suggest_categorical("kernels", list(ACTIVATION_BITS))
    losses = cross_entropy()
    if trial.suggest_categorical("teaching", ["cross_entropy", "kd"]) == "kd":
        losses = distillation(hard_weight=0.5, soft_weight=0.5, temperature=1.0)
    return Candidate(
        family="resnet",
        depths=(1, 1, 1),
        width_multiplier=width,
        pruning_ratio=removed / 100,
        pruning_criterion="l1" if removed else "uniform",
        zero_pattern=pattern,
        zero_fraction=zeros,
        weight_bits=bits,
        activation_bits=ACTIVATION_BITS[kernels],
        quantization=Quantization(method="lsq", weight_format=FORMATS[storage]),
        losses=losses,
    )
