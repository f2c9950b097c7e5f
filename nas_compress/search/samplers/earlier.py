"""Candidates of earlier studies for the models of the sampler. The study's user attributes hold them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite
from typing import Any

import numpy as np
from optuna.study import Study

from nas_compress.values.pareto import Floats

EARLIER = "nas_compress:earlier:"
"""Prefix of the study's attributes with the candidates of each earlier run."""

SOURCE = "nas_compress:source"
"""Parameter of these candidates in the models: the number of their run.

The study's own candidates lack it. So the models learn how much an earlier run says about this study: a task is one
more input of the kernel (Swersky et al. 2013, Multi-Task Bayesian Optimization).
"""

MOST = 64
"""Limit of candidates of each earlier run, evenly spaced in time. A journal and a database limit the attribute too."""


OWN = 3
"""Number of the study's own candidates whose figures define an extent or a spread without those of earlier studies."""


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """A trained candidate of an earlier run.

    source: number of the run. values: one per objective, None if it is unknown for this study. constraints: violations.
    """

    source: int
    params: Mapping[str, Any]
    values: tuple[float | None, ...]
    constraints: Mapping[str, float]


def spaced(candidates: Sequence[Any]) -> list[Any]:
    """Return at most `MOST` of the candidates of a run, evenly spaced."""
    last = len(candidates) - 1
    kept = min(len(candidates), MOST)
    return [candidates[round(place * last / max(1, kept - 1))] for place in range(kept)]


def as_text(candidates: Iterable[Earlier]) -> str:
    """Return the value of a study's attribute."""
    return json.dumps([[dict(each.params), each.values, dict(each.constraints)] for each in candidates])


def earlier_candidates(study: Study) -> list[Earlier]:
    """Return the candidates of all earlier runs in a study; values that are not as they were written are left out."""
    found: list[Earlier] = []
    for name, text in sorted(study.user_attrs.items()):
        if name.startswith(EARLIER):
            with suppress(ValueError, TypeError, LookupError, AttributeError, RecursionError):  # of other programs
                found.extend(_read(int(name.removeprefix(EARLIER)), text, len(study.directions)))
    return found


@lru_cache(maxsize=64)
def _read(source: int, text: str, objectives: int) -> Sequence[Earlier]:
    return tuple(_candidate(source, row, objectives) for row in spaced(json.loads(text)))


def _candidate(source: int, row: Any, objectives: int) -> Earlier:
    params, values, constraints = row
    figures = [value for value in (*values, *constraints.values()) if value is not None]
    if len(values) != objectives or not all(type(figure) in (int, float) and isfinite(figure) for figure in figures):
        raise ValueError(f"values must be {objectives} numbers or null, but got {values!r:.40}")
    return Earlier(source=source, params=dict(params), values=tuple(values), constraints=dict(constraints))


def in_own_spread(values: Floats, sources: Sequence[int | None]) -> Floats:
    """Return qualities (n,), those of each earlier run shrunk about their mean to the spread of the study's own.

    sources: number of the run, None for the study's own candidates. Fewer than `OWN` of these say no spread.
    All share one noise in the model: next to a run of few epochs, whose students differ by tens of points, the
    differences of this study would count as noise.
    """
    known = np.isfinite(values)
    own = values[known & np.array([source is None for source in sources])]
    scaled = values.copy()
    for source in {each for each in sources if each is not None}:
        rows = known & np.array([each == source for each in sources])
        if len(own) >= OWN and rows.sum() > 1 and values[rows].std() > own.std():
            middle = values[rows].mean()
            scaled[rows] = middle + (values[rows] - middle) * own.std() / values[rows].std()
    return scaled
