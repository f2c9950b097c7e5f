"""The table of loss terms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nas_compress.errors import require_known
from nas_compress.losses.attention_matrix import AttentionMatrix
from nas_compress.losses.attention_transfer import AttentionTransfer
from nas_compress.losses.cross_entropy import cross_entropy
from nas_compress.losses.dist import dist
from nas_compress.losses.dkd import dkd
from nas_compress.losses.fitnet import Fitnet
from nas_compress.losses.hard_label import hard_label
from nas_compress.losses.hidden_state import embeddings, hidden_states
from nas_compress.losses.kd import kd
from nas_compress.losses.label_refinery import label_refinery
from nas_compress.losses.minilm_relations import MinilmRelations
from nas_compress.losses.permuted_kd import permuted_kd
from nas_compress.losses.rkd import RkdAngle, RkdDistance
from nas_compress.losses.similarity_preserving import SimilarityPreserving
from nas_compress.losses.teacher_free import teacher_free
from nas_compress.losses.term import FeatureTerm, LogitTerm, Setting, Term, complete_settings
from nas_compress.values.candidate import LossTerm


def _temperature(default: float = 4.0) -> Setting:
    return Setting(default=default, above=0.0, below=1000.0)


def _weight(default: float) -> Setting:
    return Setting(default=default, above=0.0, below=1e6)


TERMS: Mapping[str, Term] = {
    # labels alone
    "cross_entropy": LogitTerm(
        summary="cross-entropy on the labels",
        source="",
        needs_teacher=False,
        bind=lambda chosen: lambda student, labels, teacher: cross_entropy(student, labels),
    ),
    "label_smoothing": LogitTerm(
        summary="cross-entropy on smoothed labels: what a teacher without knowledge would give",
        source="Szegedy et al. 2016, arXiv 1512.00567",
        needs_teacher=False,
        settings={"smoothing": Setting(default=0.1, above=0.0, below=1.0)},
        bind=lambda chosen: (
            lambda student, labels, teacher: cross_entropy(student, labels, smoothing=chosen["smoothing"])
        ),
    ),
    "teacher_free": LogitTerm(
        summary="kd from a virtual teacher that is right and knows nothing else: a control",
        source="Yuan et al. 2020, arXiv 1909.11723",
        needs_teacher=False,
        settings={
            "confidence": Setting(default=0.99, above=0.0, below=1.0),
            "temperature": _temperature(20.0),
        },
        bind=lambda chosen: (
            lambda student, labels, teacher: teacher_free(
                student, labels, confidence=chosen["confidence"], temperature=chosen["temperature"]
            )
        ),
    ),
    # the teacher's logits
    "kd": LogitTerm(
        summary="Kullback-Leibler divergence to the teacher's softened answers",
        source="Hinton et al. 2015, arXiv 1503.02531",
        needs_teacher=True,
        settings={"temperature": _temperature()},
        bind=lambda chosen: lambda student, labels, teacher: kd(student, teacher, temperature=chosen["temperature"]),
    ),
    "permuted_kd": LogitTerm(
        summary="kd with the teacher's wrong classes shuffled: a control",
        source="Furlanello et al. 2018, arXiv 1805.04770",
        needs_teacher=True,
        settings={"temperature": _temperature()},
        bind=lambda chosen: (
            lambda student, labels, teacher: permuted_kd(student, teacher, temperature=chosen["temperature"])
        ),
    ),
    "hard_label": LogitTerm(
        summary="cross-entropy on the class that the teacher chooses",
        source="Touvron et al. 2021, arXiv 2012.12877",
        needs_teacher=True,
        bind=lambda chosen: lambda student, labels, teacher: hard_label(student, teacher),
    ),
    "label_refinery": LogitTerm(
        summary="cross-entropy on the teacher's soft labels of the same view, meant to stand alone",
        source="Bagherinezhad et al. 2018, arXiv 1805.02641",
        needs_teacher=True,
        bind=lambda chosen: lambda student, labels, teacher: label_refinery(student, teacher),
    ),
    "dkd": LogitTerm(
        summary="decoupled kd: the label's class against the rest, and the rest among themselves",
        source="Zhao et al. 2022, arXiv 2203.08679",
        needs_teacher=True,
        settings={
            "temperature": _temperature(),
            "alpha": _weight(1.0),
            "beta": _weight(2.0),
            "warm_up": Setting(default=0.1, above=0.0, below=1.0, zero="none"),
        },
        bind=lambda chosen: (
            lambda student, labels, teacher: dkd(
                student,
                teacher,
                labels,
                temperature=chosen["temperature"],
                alpha=chosen["alpha"],
                beta=chosen["beta"],
            )
        ),
    ),
    "dist": LogitTerm(
        summary="correlation with the teacher's softened answers, within samples and within classes",
        source="Huang et al. 2022, arXiv 2205.10536",
        needs_teacher=True,
        settings={"temperature": _temperature(), "beta": _weight(1.0), "gamma": _weight(1.0)},
        bind=lambda chosen: (
            lambda student, labels, teacher: dist(
                student, teacher, temperature=chosen["temperature"], beta=chosen["beta"], gamma=chosen["gamma"]
            )
        ),
    ),
    # features of any kind
    "rkd_distance": FeatureTerm(
        summary="distances between the samples of a batch, in the pooled last features",
        source="Park et al. 2019, arXiv 1904.05068",
        needs="features",
        build=lambda chosen, student, teacher: RkdDistance(),
    ),
    "rkd_angle": FeatureTerm(
        summary="angles between the samples of a batch, in the pooled last features",
        source="Park et al. 2019, arXiv 1904.05068",
        needs="features",
        build=lambda chosen, student, teacher: RkdAngle(),
    ),
    "similarity_preserving": FeatureTerm(
        summary="inner products between the samples of a batch, in the last features",
        source="Tung, Mori 2019, arXiv 1907.09682",
        needs="features",
        build=lambda chosen, student, teacher: SimilarityPreserving(),
    ),
    # maps of convolutional networks
    "fitnet": FeatureTerm(
        summary="the middle stage predicts the teacher's, through an adaptation layer; in a stage of its own if asked",
        source="Romero et al. 2015, arXiv 1412.6550",
        needs="maps",
        settings={"hint_share": Setting(default=0.0, above=0.0, below=1.0, zero="one stage, beside the other terms")},
        build=lambda chosen, student, teacher: Fitnet(student, teacher),
    ),
    "attention_transfer": FeatureTerm(
        summary="where in the image each stage is active",
        source="Zagoruyko, Komodakis 2017, arXiv 1612.03928",
        needs="maps",
        build=lambda chosen, student, teacher: AttentionTransfer(student, teacher),
    ),
    # tokens and attention of transformers
    "hidden_state": FeatureTerm(
        summary="every layer's tokens predict the teacher's at the same relative depth, through projections",
        source="Jiao et al. 2020, arXiv 1909.10351; Sun et al. 2019, arXiv 1908.09355",
        needs="tokens",
        build=lambda chosen, student, teacher: hidden_states(student, teacher),
    ),
    "embedding": FeatureTerm(
        summary="the embedding layer's tokens predict the teacher's, through a projection",
        source="Jiao et al. 2020, arXiv 1909.10351",
        needs="tokens",
        build=lambda chosen, student, teacher: embeddings(student, teacher),
    ),
    "attention_matrix": FeatureTerm(
        summary="attention scores of every layer, head by head",
        source="Jiao et al. 2020, arXiv 1909.10351",
        needs="relations",
        build=lambda chosen, student, teacher: AttentionMatrix(student, teacher),
    ),
    "minilm_relations": FeatureTerm(
        summary="relations among queries, keys and values of the last layer; heads and widths may differ",
        source="Wang et al. 2021, arXiv 2012.15828",
        needs="relations",
        settings={"relation_heads": Setting(default=4.0, above=0.0, below=1025.0)},
        build=lambda chosen, student, teacher: MinilmRelations(student, teacher, heads=int(chosen["relation_heads"])),
    ),
}


def needs_teacher(terms: Sequence[LossTerm]) -> bool:
    """Whether any of the terms reads the teacher's answers."""
    return any(TERMS[term.name].needs_teacher for term in terms)


def feature_terms(terms: Sequence[LossTerm]) -> list[LossTerm]:
    """Those that read what student and teacher compute on the way."""
    return [term for term in terms if isinstance(TERMS[term.name], FeatureTerm)]


def check_terms(terms: Sequence[LossTerm]) -> None:
    """Raise RequestError for an unknown term or setting, or a setting out of its range."""
    for term in terms:
        require_known("a loss", term.name, TERMS)
        complete_settings(term.name, TERMS[term.name], dict(term.settings))
