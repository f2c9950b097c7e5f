"""The table of loss terms, and one function that makes the training loss of a candidate's terms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from nas_compress.candidate import LossTerm
from nas_compress.errors import RequestError, nearest, require_known
from nas_compress.losses.cross_entropy import cross_entropy
from nas_compress.losses.kd import kd

LossFunction = Callable[[Tensor, Tensor, "Tensor | None"], dict[str, Tensor]]
"""(student logits (B, C), labels (B,), teacher logits (B, C) or None) to weighted terms by name."""

TermFunction = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One number that a term takes, with its default and its open range."""

    default: float
    above: float
    below: float


@dataclass(frozen=True, kw_only=True)
class Term:
    """A kind of loss: what it needs, where it comes from, and how it is bound to its settings."""

    summary: str
    source: str
    needs_teacher: bool
    settings: Mapping[str, Setting]
    bind: Callable[[Mapping[str, float]], TermFunction]


TERMS: Mapping[str, Term] = {
    "cross_entropy": Term(
        summary="cross-entropy on the labels",
        source="",
        needs_teacher=False,
        settings={},
        bind=lambda settings: lambda student, labels, teacher: cross_entropy(student, labels),
    ),
    "label_smoothing": Term(
        summary="cross-entropy on smoothed labels: what a teacher without knowledge would give",
        source="Szegedy et al. 2016, arXiv 1512.00567",
        needs_teacher=False,
        settings={"smoothing": Setting(default=0.1, above=0.0, below=1.0)},
        bind=lambda settings: (
            lambda student, labels, teacher: cross_entropy(student, labels, smoothing=settings["smoothing"])
        ),
    ),
    "kd": Term(
        summary="Kullback-Leibler divergence to the teacher's softened answers",
        source="Hinton et al. 2015, arXiv 1503.02531",
        needs_teacher=True,
        settings={"temperature": Setting(default=4.0, above=0.0, below=1000.0)},
        bind=lambda settings: (
            lambda student, labels, teacher: kd(student, teacher, temperature=settings["temperature"])
        ),
    ),
}


def needs_teacher(terms: Sequence[LossTerm]) -> bool:
    """Whether any of the terms reads the teacher's answers."""
    return any(TERMS[term.name].needs_teacher for term in terms)


def make_loss(terms: Sequence[LossTerm]) -> LossFunction:
    """The training loss: each term times its weight, by name. The sum of the values is what is minimised.

    RequestError for an unknown term or setting, and from the loss itself where a term lacks the teacher's answers.
    """
    check_terms(terms)
    taught = [term.name for term in terms if TERMS[term.name].needs_teacher]
    bound = [(term.name, term.weight, TERMS[term.name].bind(_settings(term))) for term in terms]

    def loss(student: Tensor, labels: Tensor, teacher: Tensor | None) -> dict[str, Tensor]:
        if taught and teacher is None:
            raise RequestError(f"{', '.join(taught)} needs the teacher's logits, but got none")
        answers = student if teacher is None else teacher  # only terms on labels are left without a teacher
        values = ((name, weight, function(student, labels, answers)) for name, weight, function in bound)
        return {name: value if weight == 1 else value * weight for name, weight, value in values}

    return loss


def check_terms(terms: Sequence[LossTerm]) -> None:
    """Raise RequestError for an unknown term or setting, or a setting out of its range."""
    for term in terms:
        require_known("a loss", term.name, TERMS)
        _settings(term)


def _settings(term: LossTerm) -> dict[str, float]:
    known = TERMS[term.name].settings
    chosen = {name: setting.default for name, setting in known.items()}
    for name, value in dict(term.settings).items():
        if name not in known:
            raise RequestError(f"loss {term.name!r} has no setting {name!r}{nearest(name, known)}")
        if not known[name].above < value < known[name].below:
            raise RequestError(
                f"{known[name].above:g} < {name} < {known[name].below:g} must hold for loss {term.name!r}, "
                f"but got {name}={value:g}"
            )
        chosen[name] = value
    return chosen
