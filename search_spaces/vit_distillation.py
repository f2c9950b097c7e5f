"""Small transformers taught by a larger one, by tokens, relations, distances between samples, and logits (450 points).

width (2) x precision (3) x logits (cross-entropy alone, or KD at 2 temperatures with and without a token of its own) x
a term on features (none, or 7 at two strengths). For a teacher of family `vit`.
"""

from nas_compress.config.suggest import Suggest
from nas_compress.values.candidate import Candidate, LossTerm, cross_entropy, distillation

PRECISIONS = {"float32": (32, 32), "weights8": (8, 32), "int8": (8, 8)}

FEATURES = {
    "hidden_state": 1.0,
    "embedding": 1.0,
    "attention_matrix": 1.0,
    "minilm_relations": 1.0,
    "rkd_distance": 25.0,
    "rkd_angle": 50.0,
    "similarity_preserving": 300.0,
}
"""Terms with their weight at strength 1."""


def suggest(trial: Suggest) -> Candidate:
    """Propose one student and its teaching."""
    width = trial.suggest_categorical("width", [0.5, 1.0])
    weight_bits, activation_bits = PRECISIONS[trial.suggest_categorical("precision", list(PRECISIONS))]
    losses, token = cross_entropy(), False
    if trial.suggest_categorical("logits", ["cross_entropy", "kd"]) == "kd":
        temperature = trial.suggest_categorical("temperature", [1.0, 4.0])
        losses = distillation(hard_weight=0.5, soft_weight=0.5, temperature=temperature)
        token = trial.suggest_categorical("distillation_token", [False, True])
    features = trial.suggest_categorical("features", ["none", *FEATURES])
    if features != "none":
        strength = trial.suggest_categorical("strength", [0.1, 1.0])
        losses = (*losses, LossTerm(name=features, weight=FEATURES[features] * strength))
    return Candidate(
        family="vit",
        depths=(2,),
        width_multiplier=width,
        mlp_ratio=2.0,
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        losses=losses,
        distillation_token=token,
    )
