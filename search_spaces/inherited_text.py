"""Students of an encoder of texts that start from its layers, with a student from scratch next to them (216 points).

depth (3) x start (the first, last, alternate, spread or most important layers with their weights, or fresh weights:
6) x recipe (labels, DistilBERT, TinyBERT: 3) x precision (4). For a teacher with `teacher.hugging_face`, 12 heads and
four or more layers. DistilBERT (Sanh et al. 2019, arXiv 1910.01108): weights 5 and 1 of the teacher's answers and of
its last hidden states; the labels have the weight of the masked words, which are left out. TinyBERT (Jiao et al. 2020,
arXiv 1909.10351): embedding, hidden states and attention first, then answers.
"""

from nas_compress.config.suggest import Suggest
from nas_compress.values.candidate import Candidate, LossTerm, Quantization, cross_entropy
from nas_compress.values.family_settings import EncoderSettings

STARTS = ("first", "last", "alternate", "spread", "importance", "scratch")

FRESH = EncoderSettings(heads=12, mlp_ratio=4.0)
"""Shape of a student from scratch, as of MiniLM and BERT; one that inherits has its teacher's."""

SWITCH = 0.7
"""Part of the steps of TinyBERT's first stage."""

RECIPES: dict[str, tuple[LossTerm, ...]] = {
    "labels": cross_entropy(),
    "DistilBERT": (
        LossTerm(name="cross_entropy", weight=2.0),
        LossTerm(name="kd", weight=5.0, settings={"temperature": 2.0}),
        LossTerm(name="hidden_state", settings={"last_layers": 1}),
    ),
    "TinyBERT": (
        *(LossTerm(name=name, settings={"end": SWITCH}) for name in ("embedding", "hidden_state", "attention_matrix")),
        LossTerm(name="kd", settings={"begin": SWITCH, "temperature": 1.0}),
    ),
}

PRECISIONS = {
    "float32": (32, 32, Quantization()),
    "weights4": (4, 32, Quantization(method="lsq")),
    "int4": (4, 8, Quantization(method="lsq", ranges="dynamic", end_bits=6)),
    "int5": (5, 8, Quantization(method="lsq", ranges="dynamic", end_bits=6, embedding_bits=4)),
}
"""Bits of weights and activations. Integers have 6 bits or fewer, which no processor saturates. `int5` has tables of 4
bits, because in a table the file gives 8 to a number of 5."""


def suggest(trial: Suggest) -> Candidate:
    """Propose one student."""
    depth = trial.suggest_int("depth", 2, 4)
    start = trial.suggest_categorical("start", list(STARTS))
    weight_bits, activation_bits, quantization = PRECISIONS[trial.suggest_categorical("precision", list(PRECISIONS))]
    fresh = start == "scratch"
    return Candidate(
        family="encoder",
        depths=(depth,),
        settings=FRESH if fresh else EncoderSettings(),
        init="scratch" if fresh else "inherit",
        kept_blocks="first" if fresh else start,
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        quantization=quantization,
        losses=RECIPES[trial.suggest_categorical("recipe", list(RECIPES))],
    )
