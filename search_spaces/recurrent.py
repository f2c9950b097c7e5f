"""Recurrent networks over tokens or series: cell, directions, layers, pooling, widths and bits (1,728 points).

directions (2) x layers (2) x pooling (3) x embedding width of tokens (3) x width multiplier (4) x 12 of cell and bits:
LSTM in float32, with weights of 4 bits, or with integers of 8, 6, 4 or 3 bits; GRU and RNN in float32 or with weights
of 8 or 4 bits, because the runtime has an integer kernel for the LSTM only.
"""

from nas_compress.config.suggest import Suggest
from nas_compress.values.candidate import Candidate, LossTerm
from nas_compress.values.family_settings import RecurrentSettings

LSTM = {"float32": (32, 32), "weights4": (4, 32), "int8": (8, 8), "int6": (6, 8), "int4": (4, 8), "int3": (3, 8)}
OTHERS = {"float32": (32, 32), "weights8": (8, 32), "weights4": (4, 32)}


def suggest(trial: Suggest) -> Candidate:
    """Propose one student."""
    cell = trial.suggest_categorical("cell", ["lstm", "gru", "rnn"])
    bidirectional = trial.suggest_categorical("bidirectional", [False, True])
    layers = trial.suggest_int("layers", 1, 2)
    pooling = trial.suggest_categorical("pooling", ["last", "mean", "max"])
    embedding = trial.suggest_categorical("embedding_width", [16, 32, 64])
    width = trial.suggest_categorical("width_multiplier", [0.25, 0.5, 1.0, 2.0])
    if cell == "lstm":
        weight_bits, activation_bits = LSTM[trial.suggest_categorical("precision", list(LSTM))]
    else:
        weight_bits, activation_bits = OTHERS[trial.suggest_categorical("precision_of_weights", list(OTHERS))]
    return Candidate(
        family="recurrent",
        depths=(layers,),
        settings=RecurrentSettings(cell=cell, bidirectional=bidirectional, pooling=pooling, embedding_width=embedding),
        width_multiplier=width,
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        losses=(LossTerm(name="task_loss"),),
    )
