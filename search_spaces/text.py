"""Students of a text classifier: means of embeddings and convolutions over word pieces (240 points).

text_bag: depth (2) x width multiplier (4). text_cnn: kernel sizes (3) x width multiplier (4).
Both: weight bits (4) x taught by labels, or by labels and the teacher's answers at 2 temperatures (3).
"""

from nas_compress.config.suggest import Suggest
from nas_compress.values.candidate import Candidate, cross_entropy, distillation
from nas_compress.values.family_settings import BagSettings, TextConvolutionSettings

KERNELS = {"3": (3,), "2, 3": (2, 3), "3, 4, 5": (3, 4, 5)}


def suggest(trial: Suggest) -> Candidate:
    """Propose one student."""
    family = trial.suggest_categorical("family", ["text_bag", "text_cnn"])
    if family == "text_bag":
        depth, settings = trial.suggest_int("depth", 1, 2), BagSettings()
    else:
        kernels = trial.suggest_categorical("kernel_sizes", list(KERNELS))
        depth, settings = 1, TextConvolutionSettings(kernel_sizes=KERNELS[kernels])
    width = trial.suggest_categorical("width_multiplier", [0.125, 0.25, 0.5, 1.0])
    bits = trial.suggest_categorical("weight_bits", [2, 4, 8, 32])
    taught = trial.suggest_categorical("taught", ["labels", "teacher, T=1", "teacher, T=2"])
    temperature = 2.0 if taught.endswith("2") else 1.0
    losses = (
        cross_entropy()
        if taught == "labels"
        else distillation(hard_weight=0.5, soft_weight=0.5, temperature=temperature)
    )
    return Candidate(
        family=family,
        depths=(depth,),
        settings=settings,
        width_multiplier=width,
        weight_bits=bits,
        losses=losses,
    )
