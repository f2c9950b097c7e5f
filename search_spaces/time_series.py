"""Convolutions or recurrent networks over time: which family holds which part of the front (552 points).

Convolutions (192): kernel size (3) x full or depthwise (2) x width multiplier (4) x precision (4). Recurrent networks
(360): directions (2) x pooling (3) x width multiplier (3) x 10 of cell and bits. Each is trained with cross-entropy or
with the teacher's answers (2), so the targets are classes. Integers have 6 bits, which no processor saturates.
"""

from nas_compress.config.suggest import Suggest
from nas_compress.values.candidate import Candidate, Quantization, cross_entropy, distillation
from nas_compress.values.family_settings import RecurrentSettings, SeriesSettings

PRECISIONS = {"float32": (32, 32), "weights8": (8, 32), "weights4": (4, 32), "int6": (6, 8), "int4": (4, 8)}
CONVOLUTION = ("float32", "weights8", "weights4", "int6")
LSTM = ("float32", "weights4", "int6", "int4")
OTHERS = ("float32", "weights8", "weights4")
"""Precisions of cells without an integer kernel."""


def suggest(trial: Suggest) -> Candidate:
    """Propose one student."""
    family = trial.suggest_categorical("family", ["conv1d", "recurrent"])
    if family == "conv1d":
        settings = SeriesSettings(
            kernel_size=trial.suggest_categorical("kernel_size", [3, 5, 9]),
            depthwise=trial.suggest_categorical("depthwise", [False, True]),
        )
        depths = (1, 1, 1)
        width = trial.suggest_categorical("width_multiplier", [0.125, 0.25, 0.5, 1.0])
        precision = trial.suggest_categorical("precision", list(CONVOLUTION))
    else:
        cell = trial.suggest_categorical("cell", ["lstm", "gru", "rnn"])
        settings = RecurrentSettings(
            cell=cell,
            bidirectional=trial.suggest_categorical("bidirectional", [False, True]),
            pooling=trial.suggest_categorical("pooling", ["last", "mean", "max"]),
        )
        depths = (1,)
        width = trial.suggest_categorical("recurrent_width", [0.25, 0.5, 1.0])
        known = LSTM if cell == "lstm" else OTHERS
        precision = trial.suggest_categorical(f"precision_of_{'lstm' if cell == 'lstm' else 'others'}", list(known))
    weight_bits, activation_bits = PRECISIONS[precision]
    taught = trial.suggest_categorical("teaching", ["labels", "teacher"]) == "teacher"
    return Candidate(
        family=family,
        depths=depths,
        settings=settings,
        width_multiplier=width,
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        quantization=Quantization(end_bits=weight_bits) if activation_bits == 8 else Quantization(),
        losses=distillation(hard_weight=0.5, soft_weight=0.5, temperature=2.0) if taught else cross_entropy(),
    )
