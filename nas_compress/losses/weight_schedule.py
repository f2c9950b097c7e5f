"""Weights of terms over a training, as functions of the fraction of its planned steps that is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from nas_compress.errors import RequestError

Factor = Callable[[float], float]
"""From progress, 0 at the first step and below 1 at the last planned one, to a factor of a term's weight."""


@dataclass(frozen=True, kw_only=True)
class WeightSchedule:
    """Schedule of one term, controlled by one of its settings; 0 switches it off.

    setting: name of the setting, a fraction of the planned steps.
    first_stage: False: the term's weight grows linearly until then. True: the term is trained alone until then, and
    the other terms from then on.
    """

    setting: str
    first_stage: bool = False


@dataclass(frozen=True, kw_only=True)
class Scheduled:
    """One term of a loss.

    schedule, value: its own schedule and the value of the schedule's setting. begin, end: fractions of the planned
    steps between which it is trained.
    """

    on_teacher: bool
    schedule: WeightSchedule | None
    value: float
    begin: float = 0.0
    end: float = 1.0

    @property
    def stage(self) -> float:
        """End of the first stage that the term has for itself, or 0."""
        return self.value if self.schedule is not None and self.schedule.first_stage else 0.0

    @property
    def warm_up(self) -> float:
        """End of the term's linear growth, or 0."""
        return self.value if self.schedule is not None and not self.schedule.first_stage else 0.0


def schedule_weights(terms: Mapping[str, Scheduled], *, annealing: bool, soft_stop: float) -> dict[str, list[Factor]]:
    """Return the factors of each term's weight, by name; no factors if the weight never changes.

    annealing: terms on labels grow linearly from 0 to 1, and terms on the teacher fall from 1 to 0 (teacher annealing,
    Clark et al. 2019, arXiv 1907.04829, equation 3).
    soft_stop: fraction of the steps after which terms on the teacher have weight 0 (Cho, Hariharan 2019, arXiv
    1910.01348).
    """
    _require_remaining_terms(terms, annealing=annealing, soft_stop=soft_stop)
    stage = max(term.stage for term in terms.values())
    factors: dict[str, list[Factor]] = {name: [] for name in terms}
    for name, term in terms.items():
        own = factors[name]
        if stage:
            own.append(_until(stage) if term.stage else _from(stage))
        if annealing:
            own.append(_fall if term.on_teacher else _rise)
        if soft_stop < 1 and term.on_teacher:
            own.append(_until(soft_stop))
        if term.warm_up:
            own.append(_warm_up(term.warm_up))
        if term.begin > 0:
            own.append(_from(term.begin))
        if term.end < 1:
            own.append(_until(term.end))
    return factors


def _require_remaining_terms(terms: Mapping[str, Scheduled], *, annealing: bool, soft_stop: float) -> None:
    """Raise RequestError if every weight would be 0 at some step."""
    names = ", ".join(terms)
    on_labels = sum(not term.on_teacher for term in terms.values())
    if annealing and on_labels in (0, len(terms)):
        raise RequestError(f"annealing needs a term on labels and one on the teacher, but got losses {names}")
    if soft_stop < 1 and not on_labels:
        raise RequestError(f"soft_stop={soft_stop:g} needs a term on labels after it, but got losses {names}")
    _require_stages(terms, annealing=annealing, soft_stop=soft_stop)
    for name, term in terms.items():
        if term.schedule is not None and term.stage and (len(terms) < 2 or soft_stop <= term.stage):
            setting = term.schedule.setting
            raise RequestError(
                f"{setting} of {name} needs another term after it, and {setting} < soft_stop must hold, "
                f"but got losses {names}, {setting}={term.stage:g} and soft_stop={soft_stop:g}"
            )


def _require_stages(terms: Mapping[str, Scheduled], *, annealing: bool, soft_stop: float) -> None:
    """Raise RequestError unless some term is trained at every step between the `begin` and `end` of all terms."""
    staged = [name for name, term in terms.items() if (term.begin, term.end) != (0.0, 1.0)]
    if not staged:
        return
    own_stage = [name for name, term in terms.items() if term.stage]
    if annealing or own_stage:
        other = "annealing" if annealing else f"the first stage of {own_stage[0]}"
        raise RequestError(f"begin and end of a loss ({staged[0]}) need no other schedule, but got {other}; use one")
    spans = sorted((term.begin, min(term.end, soft_stop) if term.on_teacher else term.end) for term in terms.values())
    reached = 0.0
    for begin, end in spans:
        if begin > reached:
            break
        reached = max(reached, end)
    if reached < 1:
        rule = "a loss must be trained at every step"
        raise RequestError(f"{rule}, but none is after {reached:g} of the steps (losses {', '.join(terms)})")


def _rise(progress: float) -> float:
    return progress


def _fall(progress: float) -> float:
    return 1 - progress


def _until(end: float) -> Factor:
    return lambda progress: float(progress < end)


def _from(start: float) -> Factor:
    return lambda progress: float(progress >= start)


def _warm_up(end: float) -> Factor:
    return lambda progress: min(max(progress, 1e-3) / end, 1.0)  # above 0, because it may be the only term
