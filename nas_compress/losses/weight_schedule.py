"""How the weights of terms change over a training: by the fraction of its planned steps that is over."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from nas_compress.errors import RequestError
from nas_compress.values.candidate import LossTerm

Factor = Callable[[float], float]
"""From progress, 0 at the first step and below 1 at the last planned one, to a factor of a term's weight."""


def schedule(
    terms: Sequence[LossTerm],
    settings: Mapping[str, Mapping[str, float]],
    taught: Sequence[str],
    *,
    annealing: bool,
    soft_stop: float,
) -> dict[str, list[Factor]]:
    """The factors of each term, by name; none where its weight never changes.

    taught: the terms on the teacher. annealing: teacher annealing (Clark et al. 2019, arXiv 1907.04829, equation 3):
    terms on labels grow from 0 to 1 and those on the teacher fall from 1 to 0, linearly. soft_stop: the fraction after
    which the teacher falls silent (Cho, Hariharan 2019, arXiv 1910.01348). A `warm_up` of dkd grows linearly; a
    `hint_share` of fitnet gives the hint the first part of the training alone, and the rest to the others.
    """
    hints = {term.name: settings[term.name].get("hint_share", 0.0) for term in terms}
    share = max(hints.values())
    _require_both(terms, taught, annealing=annealing, soft_stop=soft_stop, hint_share=share)
    factors: dict[str, list[Factor]] = {term.name: [] for term in terms}
    for name, own in factors.items():
        if share:
            own.append(_until(share) if hints[name] else _from(share))
        if annealing:
            own.append(_fall if name in taught else _rise)
        if soft_stop < 1 and name in taught:
            own.append(_until(soft_stop))
        if settings[name].get("warm_up"):
            own.append(_warm_up(settings[name]["warm_up"]))
    return factors


def _require_both(
    terms: Sequence[LossTerm], taught: Sequence[str], *, annealing: bool, soft_stop: float, hint_share: float
) -> None:
    on_labels = len(terms) - len(taught)
    if annealing and not (taught and on_labels):
        raise RequestError(
            "annealing needs a term on labels and one on the teacher, "
            f"but got losses {', '.join(term.name for term in terms)}"
        )
    if soft_stop < 1 and not on_labels:
        raise RequestError(
            f"soft_stop={soft_stop:g} needs a term on labels that goes on, "
            f"but got losses {', '.join(term.name for term in terms)}"
        )
    if hint_share and (len(terms) < 2 or soft_stop <= hint_share):
        raise RequestError(
            "hint_share of fitnet needs another term that goes on after it, and hint_share < soft_stop must hold, "
            f"but got losses {', '.join(term.name for term in terms)}, {hint_share=:g} and {soft_stop=:g}"
        )


def _rise(progress: float) -> float:
    return progress


def _fall(progress: float) -> float:
    return 1 - progress


def _until(end: float) -> Factor:
    return lambda progress: float(progress < end)


def _from(start: float) -> Factor:
    return lambda progress: float(progress >= start)


def _warm_up(end: float) -> Factor:
    return lambda progress: min(max(progress, 1e-3) / end, 1.0)  # never 0: it may be the only term
