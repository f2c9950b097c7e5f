"""A candidate's loss: its terms, weighted as its teaching says at each step."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas_compress.errors import RequestError
from nas_compress.losses.layer_matching import stages
from nas_compress.losses.table import TERMS, check_terms
from nas_compress.losses.term import FeatureLoss, FeatureTerm, LogitTerm, complete_settings
from nas_compress.losses.weight_schedule import Factor, schedule
from nas_compress.models.features import Observation
from nas_compress.values.candidate import LossTerm

_Part = Callable[[Observation, Tensor, Observation], Tensor]


class TrainingLoss(nn.Module):
    """Terms by name, each times its weight; the sum is what is minimised. Its parameters are trained with the student.

    student, teacher: observations of any batch, whose shapes adaptation layers are made for; only terms on features
    need them. annealing, soft_stop: see `schedule`. RequestError for an unknown term or setting, and where a term
    lacks what it needs.
    """

    def __init__(
        self,
        terms: Sequence[LossTerm],
        *,
        student: Observation | None = None,
        teacher: Observation | None = None,
        annealing: bool = False,
        soft_stop: float = 1.0,
    ) -> None:
        super().__init__()
        check_terms(terms)
        self._weights = {term.name: term.weight for term in terms}
        settings = {term.name: complete_settings(term.name, TERMS[term.name], dict(term.settings)) for term in terms}
        self._taught = [name for name in self._weights if TERMS[name].needs_teacher]
        self._factors = schedule(terms, settings, self._taught, annealing=annealing, soft_stop=soft_stop)
        self._steady = not any(self._factors.values())
        self.adapters = nn.ModuleDict()
        self._parts: dict[str, _Part] = {}
        shared = _both_kinds(terms)
        for name, chosen in settings.items():
            term = TERMS[name]
            if isinstance(term, FeatureTerm):
                self.adapters[name] = _fitting(name, term, chosen, student, teacher)
                self._parts[name] = _on_features(self.adapters[name])
            else:
                self._parts[name] = _on_logits(term, chosen, shared=shared)

    def active(self, progress: float) -> dict[str, float]:
        """The weights at this moment, of the terms that have any. progress: fraction of the planned steps done."""
        if self._steady:
            return self._weights
        weights = {name: weight * _product(self._factors[name], progress) for name, weight in self._weights.items()}
        return {name: weight for name, weight in weights.items() if weight}

    def reads_features(self, progress: float) -> bool:
        """Whether some active term reads features."""
        return bool(self.adapters) and any(name in self.adapters for name in self.active(progress))

    def reads_relations(self, progress: float) -> bool:
        """Whether some active term reads relations of tokens."""
        return bool(self.adapters) and any(TERMS[name].needs == "relations" for name in self.active(progress))

    def forward(
        self, student: Observation, labels: Tensor, teacher: Observation | None, progress: float = 0.0
    ) -> dict[str, Tensor]:
        """Every term by name, weighted; 0 for one that is not active now."""
        weights = self.active(progress)
        taught = [name for name in self._taught if name in weights]
        if taught and teacher is None:
            raise RequestError(f"{', '.join(taught)} needs a teacher's answers or features, but got none")
        guide = student if teacher is None else teacher  # only terms on labels are left without a teacher
        values = {}
        for name, part in self._parts.items():
            weight = weights.get(name, 0.0)
            value = part(student, labels, guide) if weight else student.logits.new_zeros((), dtype=torch.float32)
            values[name] = value if weight in (0, 1) else value * weight
        return values


def _fitting(
    name: str,
    term: FeatureTerm,
    settings: Mapping[str, float],
    student: Observation | None,
    teacher: Observation | None,
) -> FeatureLoss:
    for seen, who in ((student, "student"), (teacher, "teacher")):
        if seen is None or not _gives(seen, term.needs):
            bare = seen is not None and not seen.features
            found = "shows its answers alone; teacher.features names the modules of one's own" if bare else "has none"
            raise RequestError(f"loss {name!r} needs a {who} with {_WORDS[term.needs]}, but it {found}")
    if student is None or teacher is None:
        raise ValueError("both were checked above")
    return term.build(settings, student, teacher)


_WORDS = {
    "features": "named features",
    "maps": "feature maps, as convolutional families have",
    "tokens": "tokens, as the vit family has",
    "relations": "attention layers, as the vit family has",
}


def _gives(seen: Observation, needs: str) -> bool:
    if needs == "relations":
        return bool(seen.relations)
    dimensions = {"features": (2, 3, 4), "maps": (4,), "tokens": (3,)}[needs]
    return bool(stages(seen.features)) and all(feature.ndim in dimensions for feature in seen.features.values())


def _both_kinds(terms: Sequence[LossTerm]) -> bool:
    """Whether some logits learn from labels and some from a teacher."""
    kinds = {term.needs_teacher for term in (TERMS[each.name] for each in terms) if isinstance(term, LogitTerm)}
    return len(kinds) == 2


def _on_features(loss: nn.Module) -> _Part:
    return lambda student, labels, teacher: loss(student, teacher)


def _on_logits(term: LogitTerm, settings: Mapping[str, float], *, shared: bool) -> _Part:
    """A second head, where there is one, learns from the teacher and the first from labels; else both together."""
    function, temperature = term.bind(settings), settings.get("temperature", 1.0)
    if not term.needs_teacher:
        if shared:
            return lambda student, labels, teacher: function(student.logits, labels, teacher.logits)
        return lambda student, labels, teacher: function(student.answer, labels, teacher.logits)
    if shared:
        return lambda student, labels, teacher: function(
            student.taught_logits, labels, one_answer(teacher.logits, temperature)
        )
    return lambda student, labels, teacher: function(student.answer, labels, one_answer(teacher.logits, temperature))


def one_answer(logits: Tensor, temperature: float) -> Tensor:
    """Logits (B, C) whose softened probabilities are the mean over the members of an ensemble (B, members, C).

    One teacher's logits (B, C) pass as they are. The mean of probabilities is Hinton et al. 2015's (arXiv 1503.02531).
    """
    if logits.ndim == 2:
        return logits
    each = F.log_softmax(logits.detach().float() / temperature, dim=2)
    return (each.logsumexp(dim=1) - math.log(logits.shape[1])) * temperature


def _product(factors: list[Factor], progress: float) -> float:
    return functools.reduce(lambda product, factor: product * factor(progress), factors, 1.0)
