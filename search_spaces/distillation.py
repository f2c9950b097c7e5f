"""Small image classifiers with a search over teaching: terms, weights, kind of teacher (103,308 points).

family (3) x width (2) x precision (3); then a term on logits (8) with its weight and temperature, a term on features
(none, or 3 to 5 by family) at two strengths, and the kind of teacher (5 or 6) with or without annealing or a stop of
the soft loss.
For a teacher of a built-in convolutional family.
"""

from nas_compress.config.suggest import Suggest
from nas_compress.values.candidate import Candidate, LossTerm, Teaching
from nas_compress.values.teaching import temperatures

PRECISIONS = {"float32": (32, 32), "weights8": (8, 32), "int8": (8, 8)}

SHAPES = {
    "resnet": {"depths": (1, 1, 1), "widths": [0.25, 0.5]},
    "mobilenet": {"depths": (1, 1, 1), "widths": [0.5, 1.0]},
    "vit": {"depths": (2,), "widths": [0.5, 1.0]},
}

ANY_FEATURES = {"rkd_distance": 25.0, "rkd_angle": 50.0, "similarity_preserving": 300.0}
"""Terms that compare the samples of a batch, with their weight at strength 1."""

MAPS = {"fitnet": 10.0, "attention_transfer": 100.0}
"""Terms on convolutional features of both student and teacher."""

UNTAUGHT = ("cross_entropy", "label_smoothing", "teacher_free")
TAUGHT = ("kd", "dkd", "dist", "hard_label", "label_refinery")


def suggest(trial: Suggest) -> Candidate:
    """Propose one student and its teaching."""
    family = trial.suggest_categorical("family", list(SHAPES))
    width = trial.suggest_categorical(f"{family}_width", SHAPES[family]["widths"])
    weight_bits, activation_bits = PRECISIONS[trial.suggest_categorical("precision", list(PRECISIONS))]
    losses = logit_terms(trial, weight_bits) + feature_terms(trial, family)
    return Candidate(
        family=family,
        depths=SHAPES[family]["depths"],
        width_multiplier=width,
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        losses=losses,
        teaching=teaching(trial, losses),
    )


def logit_terms(trial: Suggest, weight_bits: int) -> tuple[LossTerm, ...]:
    """A term on labels, alone or with a term on the teacher's logits; label refinery has no term on labels."""
    name = trial.suggest_categorical("logits", [*UNTAUGHT, *TAUGHT])
    if name in (*UNTAUGHT, "label_refinery"):
        return (LossTerm(name=name),)
    soft = trial.suggest_int("soft_percent", 30, 90, step=30) / 100
    hard = LossTerm(name="cross_entropy", weight=1 - soft)
    if name == "hard_label":
        return (hard, LossTerm(name=name, weight=soft))
    temperature = trial.suggest_categorical("temperature", list(temperatures(weight_bits)))
    return (hard, LossTerm(name=name, weight=soft, settings={"temperature": temperature}))


def feature_terms(trial: Suggest, family: str) -> tuple[LossTerm, ...]:
    """At most one term on features."""
    reference = ANY_FEATURES if family == "vit" else ANY_FEATURES | MAPS
    name = trial.suggest_categorical(f"{family}_features", ["none", *reference])
    if name == "none":
        return ()
    return (LossTerm(name=name, weight=reference[name] * trial.suggest_categorical("strength", [0.1, 1.0])),)


def teaching(trial: Suggest, losses: tuple[LossTerm, ...]) -> Teaching:
    """The kind of teacher, if a term needs one, and the fading of the teacher's terms."""
    names = {term.name for term in losses}
    if names <= set(UNTAUGHT):
        return Teaching()
    labelled = bool(names & set(UNTAUGHT))
    kinds = ["fixed", "half_trained", "ensemble", "assistant", "born_again"]
    if labelled:
        kind = trial.suggest_categorical("teacher", [*kinds, "mutual"])
    else:  # peers need labels, because they start without knowledge
        kind = trial.suggest_categorical("teacher_alone", kinds)
    fading = trial.suggest_categorical("fading", ["none", "annealing", "soft_stop"]) if labelled else "none"
    return Teaching(
        teacher="fixed" if kind == "half_trained" else kind,
        checkpoint=0.5 if kind == "half_trained" else None,
        annealing=fading == "annealing",
        soft_stop=0.7 if fading == "soft_stop" else 1.0,
    )
