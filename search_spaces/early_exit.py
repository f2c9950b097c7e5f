"""Classifiers of images that may stop early (4,800 points).

family (2) x blocks in each of three stages (2 each) x width multiplier (4) x precision (3) x exits: none, or 3 places x
3 fractions of the accuracy that they may lose x training (2). Two exits may also leave by patience.
"""

from nas_compress.config.suggest import Suggest
from nas_compress.values.candidate import Candidate, Exits

PRECISIONS = {"float32": (32, 32), "weights8": (8, 32), "int8": (8, 8)}
PLACES = {"none": (), "first": ("stage0",), "second": ("stage1",), "both": ("stage0", "stage1")}


def suggest(trial: Suggest) -> Candidate:
    """Propose one student."""
    family = trial.suggest_categorical("family", ["resnet", "mobilenet"])
    depths = tuple(trial.suggest_int(f"depth_{stage}", 1, 2) for stage in range(3))
    width = trial.suggest_categorical("width_multiplier", [0.25, 0.5, 0.75, 1.0])
    weight_bits, activation_bits = PRECISIONS[trial.suggest_categorical("precision", list(PRECISIONS))]
    exits, after = None, PLACES[trial.suggest_categorical("exits", list(PLACES))]
    if after:
        loss = trial.suggest_categorical("exits_may_lose_percent", [0.0, 0.5, 1.0])
        training = trial.suggest_categorical("exits_training", ["frozen", "joint"])
        confidence = "max_probability"
        if len(after) > 1:  # one exit alone has nothing to agree with
            confidence = trial.suggest_categorical("exits_confidence", ["max_probability", "patience"])
        exits = Exits(after=after, accuracy_loss=loss / 100, training=training, confidence=confidence)
    return Candidate(
        family=family,
        depths=depths,
        width_multiplier=width,
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        exits=exits,
    )
