"""Students of a text classifier: bags, convolutions, recurrent networks and encoders over word pieces (546 points).

text_bag: depth (2) x width multiplier (4) x bits of weights (4). text_cnn: kernel sizes (3) x width multiplier (4) x
precision (5). recurrent, in both directions: embedding width (2) x layer width (3) x 7 of cell and precision. encoder:
depth (2) x embedding width (2) x layer width (3) x precision (4). Each is taught by labels, or by labels and the
teacher's answers at 2 temperatures (3). Integers have 6 bits or fewer, which no processor saturates.
"""

from nas_compress.config.suggest import Suggest
from nas_compress.values.candidate import Candidate, Quantization, cross_entropy, distillation
from nas_compress.values.family_settings import (
    BagSettings,
    EncoderSettings,
    FamilySettings,
    RecurrentSettings,
    TextConvolutionSettings,
)

KERNELS = {"3": (3,), "2, 3": (2, 3), "3, 4, 5": (3, 4, 5)}

WEIGHTS = {"float32": 32, "weights8": 8, "weights4": 4, "weights2": 2}
INTEGERS = {"int6": 6, "int4": 4}
"""Bits of weights alone, and of weights in integer products with activations of 8 bits."""

PRECISIONS = {
    "bag": list(WEIGHTS),
    "cnn": [*WEIGHTS, "int6"],
    "lstm": ["float32", "weights4", "int6", "int4"],
    "gru": ["float32", "weights8", "weights4"],
    "encoder": ["float32", "weights8", "weights4", "int6"],
}
"""Choices of each form. Means of embeddings gain nothing from integer products, and a GRU has no integer kernel."""


def suggest(trial: Suggest) -> Candidate:
    """Propose one student."""
    family = trial.suggest_categorical("family", ["text_bag", "text_cnn", "recurrent", "encoder"])
    form, depth, settings = _shape(trial, family)
    if family in ("text_bag", "text_cnn"):
        width = trial.suggest_categorical("width_multiplier", [0.125, 0.25, 0.5, 1.0])
    else:
        width = trial.suggest_categorical("layer_width", [0.25, 0.5, 1.0])
    precision = trial.suggest_categorical(f"precision_of_{form}", PRECISIONS[form])
    integers = precision in INTEGERS
    bits = INTEGERS[precision] if integers else WEIGHTS[precision]
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
        activation_bits=8 if integers else 32,
        quantization=_integers(family, bits) if integers else Quantization(),
        losses=losses,
    )


def _shape(trial: Suggest, family: str) -> tuple[str, int, FamilySettings]:
    """Return the form whose precisions are searched, the depth and the settings."""
    if family == "text_bag":
        return "bag", trial.suggest_int("depth", 1, 2), BagSettings()
    if family == "text_cnn":
        kernels = trial.suggest_categorical("kernel_sizes", list(KERNELS))
        return "cnn", 1, TextConvolutionSettings(kernel_sizes=KERNELS[kernels])
    embedding = trial.suggest_categorical("embedding_width", [16, 32])
    if family == "recurrent":
        cell = trial.suggest_categorical("cell", ["lstm", "gru"])
        return cell, 1, RecurrentSettings(cell=cell, embedding_width=embedding)
    return "encoder", trial.suggest_int("layers", 1, 2), EncoderSettings(embedding_width=embedding)


def _integers(family: str, bits: int) -> Quantization:
    """Return integers of the first and last layer too; an encoder finds its ranges while it runs."""
    return Quantization(end_bits=bits, ranges="dynamic" if family == "encoder" else "")
