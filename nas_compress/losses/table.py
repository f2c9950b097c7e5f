"""Table of loss terms by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nas_compress.errors import require_known
from nas_compress.losses.features import (
    AttentionTransfer,
    Fitnet,
    RkdAngle,
    RkdDistance,
    SentenceEmbedding,
    SimilarityPreserving,
)
from nas_compress.losses.logits import (
    cross_entropy,
    dist,
    dkd,
    dkd_warning,
    hard_label,
    kd,
    label_refinery,
    permuted_kd,
    teacher_free,
)
from nas_compress.losses.term_kinds import FeatureTerm, LogitTerm, Setting, TaskTerm, Term, complete_settings
from nas_compress.losses.transformer_features import AttentionMatrix, Embedding, HiddenState, MinilmRelations
from nas_compress.losses.weight_schedule import WeightSchedule
from nas_compress.values.candidate import LossTerm


def _temperature(default: float = 4.0) -> Setting:
    return Setting(default=default, above=0.0, below=1000.0)


def _weight(default: float) -> Setting:
    return Setting(default=default, above=0.0, below=1e6)


_PAIRING = {"last_layers": Setting(default=0.0, above=0.0, below=1025.0, zero="each layer, by relative depth")}
"""Pairs from the last layer on, instead of all by relative depth."""

TERMS: Mapping[str, Term] = {
    # any task
    "task_loss": TaskTerm(
        summary="the loss of the task itself, without a teacher: for images cross-entropy on the labels",
        source="",
    ),
    "teacher_targets": TaskTerm(
        summary="the loss of a regression with the teacher's outputs in place of the targets",
        source="Ba, Caruana 2014, arXiv 1312.6184",
        on_teacher=True,
    ),
    # terms of logits: labels only
    "cross_entropy": LogitTerm(
        function=cross_entropy,
        targets=("labels",),
        weighted=True,
        summary="cross-entropy on the labels",
        source="",
    ),
    "label_smoothing": LogitTerm(
        function=cross_entropy,
        targets=("labels",),
        weighted=True,
        summary="cross-entropy on smoothed labels, as from a teacher without knowledge",
        source="Szegedy et al. 2016, arXiv 1512.00567",
        settings={"smoothing": Setting(default=0.1, above=0.0, below=1.0)},
    ),
    "teacher_free": LogitTerm(
        function=teacher_free,
        targets=("labels",),
        summary="kd from a virtual teacher with equal probabilities for all wrong classes: a control",
        source="Yuan et al. 2020, arXiv 1909.11723",
        settings={
            "confidence": Setting(default=0.99, above=0.0, below=1.0),
            "temperature": _temperature(20.0),
        },
    ),
    # terms of logits: the teacher
    "kd": LogitTerm(
        function=kd,
        targets=("teacher",),
        summary="Kullback-Leibler divergence to the teacher's softened answers",
        source="Hinton et al. 2015, arXiv 1503.02531",
        settings={"temperature": _temperature()},
    ),
    "permuted_kd": LogitTerm(
        function=permuted_kd,
        targets=("teacher",),
        summary="kd with the teacher's wrong classes shuffled: a control",
        source="Furlanello et al. 2018, arXiv 1805.04770",
        settings={"temperature": _temperature()},
    ),
    "hard_label": LogitTerm(
        function=hard_label,
        targets=("teacher",),
        summary="cross-entropy on the teacher's most likely class",
        source="Touvron et al. 2021, arXiv 2012.12877",
    ),
    "label_refinery": LogitTerm(
        function=label_refinery,
        targets=("teacher",),
        summary="cross-entropy on the teacher's soft labels of the same view, meant to stand alone",
        source="Bagherinezhad et al. 2018, arXiv 1805.02641",
    ),
    "dkd": LogitTerm(
        function=dkd,
        targets=("teacher", "labels"),
        soft_labels=False,  # one class is set apart from the others
        summary="decoupled kd: the label's class against the rest, and the rest among themselves",
        source="Zhao et al. 2022, arXiv 2203.08679",
        settings={
            "temperature": _temperature(),
            "alpha": _weight(1.0),
            "beta": _weight(2.0),
            "warm_up": Setting(default=0.1, above=0.0, below=1.0, zero="none"),
        },
        weight_schedule=WeightSchedule(setting="warm_up"),
        warning=dkd_warning,
    ),
    "dist": LogitTerm(
        function=dist,
        targets=("teacher",),
        summary="correlation with the teacher's softened answers, within samples and within classes",
        source="Huang et al. 2022, arXiv 2205.10536",
        settings={"temperature": _temperature(), "beta": _weight(1.0), "gamma": _weight(1.0)},
        min_batch=2,
    ),
    # terms of features: any kind
    "rkd_distance": FeatureTerm(
        loss=RkdDistance,
        needs="features",
        summary="distances between the samples of a batch, in the pooled last features",
        source="Park et al. 2019, arXiv 1904.05068",
        min_batch=3,  # with two samples the only distance is the mean
    ),
    "rkd_angle": FeatureTerm(
        loss=RkdAngle,
        needs="features",
        summary="angles between the samples of a batch, in the pooled last features",
        source="Park et al. 2019, arXiv 1904.05068",
        min_batch=3,
    ),
    "similarity_preserving": FeatureTerm(
        loss=SimilarityPreserving,
        needs="features",
        summary="inner products between the samples of a batch, in the last features",
        source="Tung, Mori 2019, arXiv 1907.09682",
        min_batch=2,
    ),
    "sentence_embedding": FeatureTerm(
        loss=SentenceEmbedding,
        needs="features",
        summary="direction of the pooled last features, through a projection",
        source="Reimers, Gurevych 2020, arXiv 2004.09813",
    ),
    # terms of features: maps of convolutional networks
    "fitnet": FeatureTerm(
        loss=Fitnet,
        needs="maps",
        summary="the middle stage predicts the teacher's through an adaptation layer, optionally before all else",
        source="Romero et al. 2015, arXiv 1412.6550",
        settings={"hint_share": Setting(default=0.0, above=0.0, below=1.0, zero="together with the other terms")},
        weight_schedule=WeightSchedule(setting="hint_share", first_stage=True),
    ),
    "attention_transfer": FeatureTerm(
        loss=AttentionTransfer,
        needs="maps",
        summary="where in the image each stage is active",
        source="Zagoruyko, Komodakis 2017, arXiv 1612.03928",
    ),
    # terms of features: tokens and attention of transformers
    "hidden_state": FeatureTerm(
        loss=HiddenState,
        needs="tokens",
        summary="tokens of every layer predict the teacher's at the same relative depth, through projections",
        source="Jiao et al. 2020, arXiv 1909.10351; Sun et al. 2019, arXiv 1908.09355",
        settings=_PAIRING,
    ),
    "embedding": FeatureTerm(
        loss=Embedding,
        needs="tokens",
        summary="the embedding layer's tokens predict the teacher's, through a projection",
        source="Jiao et al. 2020, arXiv 1909.10351",
    ),
    "attention_matrix": FeatureTerm(
        loss=AttentionMatrix,
        needs="relations",
        summary="attention scores of every layer, head by head",
        source="Jiao et al. 2020, arXiv 1909.10351",
        settings=_PAIRING,
    ),
    "minilm_relations": FeatureTerm(
        loss=MinilmRelations,
        needs="relations",
        summary="relations among queries, keys and values of the last layer; heads and widths may differ",
        source="Wang et al. 2021, arXiv 2012.15828",
        settings={"relation_heads": Setting(default=4.0, above=0.0, below=1025.0)},
    ),
}

TASK_LOSS = (LossTerm(name="task_loss"),)
"""Training without a teacher, for any task."""


def needs_teacher(terms: Sequence[LossTerm]) -> bool:
    """True if a term reads the teacher's logits or features."""
    return any(TERMS[term.name].needs_teacher for term in terms)


def reads_answers(terms: Sequence[LossTerm]) -> bool:
    """True if a term reads the teacher's logits."""
    rows = [TERMS[term.name] for term in terms]
    return any(isinstance(row, LogitTerm) and row.needs_teacher for row in rows)


def feature_terms(terms: Sequence[LossTerm]) -> list[LossTerm]:
    """Return the terms of features."""
    return [term for term in terms if isinstance(TERMS[term.name], FeatureTerm)]


def runs_teacher(terms: Sequence[LossTerm]) -> bool:
    """True if a term reads features or outputs of the teacher's network itself, instead of its stored logits."""
    rows = [TERMS[term.name] for term in terms]
    return any(isinstance(row, FeatureTerm) or (isinstance(row, TaskTerm) and row.on_teacher) for row in rows)


def check_terms(terms: Sequence[LossTerm]) -> None:
    """Raise RequestError for an unknown term or setting, or a setting out of its range."""
    for term in terms:
        require_known("a loss", term.name, TERMS)
        complete_settings(term.name, TERMS[term.name], dict(term.settings))
