"""Costs of candidates before training. Each is looked up once and kept in the study."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import lru_cache
from math import isfinite
from typing import Any

from optuna.study import Study

from nas_compress.errors import DeviceLostError
from nas_compress.search.samplers.observations import Known
from nas_compress.search.samplers.proposals import Key, SpacePoint, key_of

Costs = Callable[[object], Known | None]
"""Looks up a candidate before training; None if its costs cannot be found, DeviceLostError if they cannot now."""

PREFIX = "known_costs:"
"""Prefix of the study's attributes for looked-up costs."""

MOST_DEATHS = 2
"""Stop looking up a candidate after this many crashes. Its trial counts crashes separately."""


class KnownCosts:
    """Known costs by parameters; `look_up` finds more. Without `costs` nothing more is looked up.

    Nor is it once a device is lost. That lookup leaves no trace: the candidate may be looked up for a later proposal.

    They are kept in the study's user attributes, for resumed studies and other workers.
    """

    def __init__(self, study: Study, costs: Costs | None) -> None:
        self._study, self._costs = study, costs
        self.found: dict[Key, tuple[Mapping[str, Any], Known]] = {}
        self.refused: set[Key] = set()
        self._begun: dict[Key, int] = {}
        for name, text in study.user_attrs.items():
            if name.startswith(PREFIX):
                with suppress(ValueError, TypeError, LookupError, AttributeError, RecursionError):  # of other programs
                    self._keep(*_read(text, len(study.directions)))

    @property
    def count(self) -> int:
        """Number of candidates looked up so far."""
        return len(self.found) + len(self.refused)

    def lacks(self, point: SpacePoint) -> bool:
        """True if the costs of a point are unknown and can be looked up."""
        return self._costs is not None and point.key not in self.found and point.key not in self.refused

    def look_up(self, points: Iterable[SpacePoint], *, enough: int | None = None) -> None:
        """Look up the costs of unknown points, until `enough` are known."""
        for point in points:
            if enough is not None and self.count >= enough:
                return
            if self._costs is not None and self.lacks(point):
                self._look_up(point, self._costs)

    def _look_up(self, point: SpacePoint, costs: Costs) -> None:
        """Record the attempt before starting it, to make a crash during the lookup visible to the next run."""
        begun = self._begun.get(point.key, 0)
        if begun >= MOST_DEATHS:
            self.refused.add(point.key)
            return
        self._note(point, begun + 1)
        try:
            known = costs(point.candidate)
        except DeviceLostError:
            self._note(point, begun)
            self._costs = None
            return
        except BaseException:
            self._note(point, begun)
            raise
        self._note(point, None if known is None else [known.values, known.constraints])
        self._keep(point.key, point.params, known)

    def _note(self, point: SpacePoint, told: object) -> None:
        params = json.dumps(dict(point.params), sort_keys=True)
        name = PREFIX + hashlib.sha256(params.encode()).hexdigest()[:16]
        self._study.set_user_attr(name, json.dumps([dict(point.params), told]))

    def _keep(self, key: Key, params: Mapping[str, Any], known: Known | int | None) -> None:
        if isinstance(known, int):
            self._begun[key] = known
        elif known is None:
            self.refused.add(key)
        else:
            self.found[key] = (params, known)


@lru_cache(maxsize=8192)
def _read(text: str, objectives: int) -> tuple[Key, Mapping[str, Any], Known | int | None]:
    """Return the parameters and costs in an attribute; ValueError and others if it has another form."""
    params, told = json.loads(text)
    if not isinstance(told, list):
        if told is not None and type(told) is not int:
            raise ValueError(f"costs must be a list, a number of deaths or null, but got {told!r:.40}")
        return key_of(params), params, told
    values, constraints = told
    figures = [value for value in (*values, *constraints.values()) if value is not None]
    if len(values) != objectives or not all(type(figure) in (int, float) and isfinite(figure) for figure in figures):
        raise ValueError(f"costs must be {objectives} numbers, but got {values!r:.40}")
    return key_of(params), params, Known(values=tuple(values), constraints=constraints)
