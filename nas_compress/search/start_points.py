"""First candidates of a study."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import optuna

from nas_compress.search.preflight.feasibility import Sized, draw_candidates
from nas_compress.search.setup import StudyParts
from nas_compress.search.storage.attribute_names import POINT, STARTED
from nas_compress.teacher.obtain import teacher_architecture


def start_points(parts: StudyParts, sized: Sequence[Sized]) -> list[Mapping[str, object]]:
    """Return the parameters to try first: those in the study file, then those found in the space.

    sized: candidates drawn from the space, smallest first.
    """
    chosen: Mapping[str, Callable[[], Sized]] = {
        "smallest": lambda: sized[0],
        "largest": lambda: sized[-1],
        "teacher": lambda: _like_the_teacher(parts, sized),
    }
    found: list[Mapping[str, object]] = [*parts.spec.search.enqueue]
    for name in parts.spec.search.start:
        params = chosen[name]().params
        if params not in found:
            found.append(params)
    return found


def queue_start_points(study: optuna.Study, parts: StudyParts) -> None:
    """Queue the start points once per study. Points queued by an interrupted run are left out."""
    search = parts.spec.search
    if not (search.start or search.enqueue) or study.user_attrs.get(STARTED):
        return
    sized, _ = draw_candidates(parts)
    queued = {trial.user_attrs.get(POINT) for trial in study.get_trials(deepcopy=False)}
    for number, params in enumerate(start_points(parts, sized)):
        if number not in queued:
            study.enqueue_trial(dict(params), user_attrs={POINT: number})
    study.set_user_attr(STARTED, True)


def is_double(study: optuna.Study, trial: optuna.Trial) -> bool:
    """Return True if an earlier trial is the same start point.

    Runs may queue it several times if they start a study at the same moment.
    """
    point = trial.user_attrs.get(POINT)
    if point is None:
        return False
    trials = study.get_trials(deepcopy=False)
    return any(other.user_attrs.get(POINT) == point for other in trials if other.number < trial.number)


def _like_the_teacher(parts: StudyParts, sized: Sequence[Sized]) -> Sized:
    """Return the candidate most similar to the teacher: unpruned, float, of its depths, width and weight bits."""
    section = parts.spec.teacher
    own = not section.is_trained
    family = None if own else section.family
    depths = section.depths if own else teacher_architecture(section, parts.dataset, parts.file.label).depths

    def distance(item: Sized) -> tuple[bool, bool, float, float, int]:
        candidate = item.candidate
        return (
            candidate.shape.family != family,
            candidate.shape.depths != depths,
            candidate.pruning.ratio,
            abs(candidate.shape.width_multiplier - 1),
            -candidate.precision.weight_bits,
        )

    return min(sized, key=distance)
