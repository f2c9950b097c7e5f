"""Observations for the models: costs of candidates as far as they are known, and the front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nas_compress.search.samplers.earlier import SOURCE, Earlier
from nas_compress.search.samplers.proposals import Key, key_of
from nas_compress.stopping.curve import Curve
from nas_compress.stopping.optuna_adapter import CURVE, curve_of
from nas_compress.values.metrics.table import METRICS
from nas_compress.values.pareto import Floats, fronts, spread_subset

FAILED = "failed"
"""Constraint violated by candidates of failed trials."""
LOOKED, EARLY, LATE = 40, 64, 24
"""Numbers of candidates in a model, besides the front and the running ones.

Looked-up and tried ones evenly spaced in time, and the newest of both.
"""
FRONT = 24
"""Limit of front members in a model. Of more, the members with the largest volume are kept."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """Knowledge about a candidate before training.

    values: one per objective, None if it needs training. constraints: violation per known constraint; <= 0 is
    satisfied.
    """

    values: tuple[float | None, ...]
    constraints: Mapping[str, float]


@dataclass(frozen=True, kw_only=True, eq=False)
class Observed:
    """n candidates; small is good.

    costs: (n, m), nan if unknown. variances: (n, m), of extrapolated costs. excess: (n, c), violations of the
    constraints, nan if unknown. front: rows on the front. running: rows of running trials.
    settled: two masks (n,) of rows fixed until the number of candidates has grown by an eighth: of all, and without
    those that were only looked up.
    own: (n,), False for candidates of earlier studies, which are not on the front.
    quality: column of the first maximised objective that training determines, None without one. is_share: the quality
    is a metric from 0 to 1.
    """

    keys: list[Key]
    params: list[Mapping[str, Any]]
    costs: Floats
    variances: Floats
    excess: Floats
    front: NDArray[np.intp]
    running: NDArray[np.intp]
    settled: tuple[NDArray[np.bool_], NDArray[np.bool_]]
    own: NDArray[np.bool_]
    quality: int | None
    is_share: bool


def observe(
    trials: Mapping[Key, FrozenTrial],
    known: Mapping[Key, tuple[Mapping[str, Any], Known]],
    directions: Sequence[StudyDirection],
    names: Sequence[str] | None = None,
    earlier: Sequence[Earlier] = (),
) -> Observed:
    """Return the known and measured costs of candidates; of many candidates, a part.

    names: of the objectives, None if the study has no names for them. earlier: candidates of earlier studies.
    Positive minimised costs and figures of a logarithmic metric are replaced by their logarithm. The learned cost of a
    stopped trial is extrapolated by the mean gain of finished trials after the same step; with fewer than two of them
    it is unknown. Over-budget trials contribute costs only; running trials contribute known costs. Failed trials break
    the extra constraint FAILED.
    """
    signs = np.array([-1.0 if direction == StudyDirection.MAXIMIZE else 1.0 for direction in directions])
    learned, logarithmic = _learned_columns(names, signs), _logarithmic_columns(names, signs)
    failing = any(trial.state == TrialState.FAIL for trial in trials.values())
    constraints = [trial.constraints for trial in trials.values()]
    broken = {name for each in constraints for name in each}.union(
        *(item.constraints for _, item in known.values()), *(item.constraints for item in earlier)
    )
    limits = sorted(broken) + [FAILED] * failing
    told = [*zip(trials, trials.values(), constraints, strict=True)]
    within = [(key, trial) for key, trial, each in told if not each or max(each.values()) <= 0]
    front = _front(within, signs)
    running = {key for key, trial, _ in told if trial.state == TrialState.RUNNING}
    kept, settled = _part([*known], [*trials], running | front)
    rows = []
    for key in kept:
        before = _known_row(*known[key], signs, limits) if key in known else None
        rows.append(before if key not in trials else _row(trials[key], before, signs, limits, learned))
    found = [row for row in rows if row is not None]
    own = np.arange(len(kept) + len(earlier)) < len(kept)
    for item in earlier:
        params = {**item.params, SOURCE: item.source}
        kept.append(key_of(params))
        found.append(_known_row(params, Known(values=item.values, constraints=item.constraints), signs, limits))
    settled = _lengthened(settled[0], len(earlier)), _lengthened(settled[1], len(earlier))
    qualities = np.flatnonzero(learned & (signs < 0))
    return _table(
        kept,
        found,
        signs,
        limits,
        front,
        settled,
        own,
        logarithmic=logarithmic,
        quality=int(qualities[0]) if len(qualities) else None,
        names=names,
    )


def fullest(trials: Sequence[FrozenTrial]) -> dict[Key, FrozenTrial]:
    """Return the most informative trial of each candidate: a fully trained one, else the last."""
    found: dict[Key, FrozenTrial] = {}
    for trial in trials:
        key = key_of(trial.params)
        before = found.setdefault(key, trial)
        if before is not trial and not is_whole(before):
            found[key] = trial
    return found


def is_whole(trial: FrozenTrial) -> bool:
    """True if a trial was trained to its end, by its attributes."""
    if trial.state != TrialState.COMPLETE or trial.user_attrs.get("state", "trained") != "trained":
        return False
    curve = trial.user_attrs.get(CURVE)
    if curve is None:
        return True
    return bool(curve["points"]) and curve["points"][-1][0] >= curve["planned"]


def is_closed(trial: FrozenTrial) -> bool:
    """True if a candidate needs no further trial: it was trained or pruned, is running, or failed."""
    return trial.state != TrialState.COMPLETE or is_whole(trial)


def _front(trials: Sequence[tuple[Key, FrozenTrial]], signs: Floats) -> set[Key]:
    """Return the trained candidates on the front."""
    whole = [(key, trial) for key, trial in trials if is_whole(trial)]
    if not whole:
        return set()
    costs = np.array([trial.values for _, trial in whole], dtype=np.float64) * signs
    return {whole[row][0] for row in _members(costs.tobytes(), len(signs))}


# Cached: a proposal asks again after each lookup, which changes no trial.
@lru_cache(maxsize=4)
def _members(table: bytes, objectives: int) -> tuple[int, ...]:
    """Return the rows of the front of costs (n, m), of many those with the largest volume."""
    costs = np.frombuffer(table).reshape(-1, objectives)
    members = np.flatnonzero(fronts(costs, enough=1) == 0)
    if len(members) > FRONT:
        costs = costs[members] - costs[members].min(axis=0)
        extent = np.maximum(costs.max(axis=0), 1e-12)
        members = members[spread_subset(costs / extent, np.full(objectives, 1.1), FRONT)]
    return tuple(members.tolist())


def _part(
    known: Sequence[Key], tried: Sequence[Key], needed: set[Key]
) -> tuple[list[Key], tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Return the keys of the candidates in a model, and masks of the settled ones: of all, and of the tried ones.

    Looked-up and tried candidates are chosen separately, so that look-ups do not displace trained ones.
    """
    looked, trained = _spaced(known, LOOKED), _spaced(tried, EARLY)
    late = [*known[_settled(len(known)) :][-LATE:], *tried[_settled(len(tried)) :][-LATE:]]
    kept = list(dict.fromkeys([*looked, *trained, *late, *(key for key in tried if key in needed)]))
    both, alone = {*looked, *trained}, {*trained}
    masks = [np.array([key in group for key in kept], dtype=np.bool_) for group in (both, alone)]
    return kept, (masks[0], masks[1])


def _spaced(keys: Sequence[Key], most: int) -> list[Key]:
    """Return at most so many of the settled keys, evenly spaced."""
    count = _settled(len(keys))
    return [keys[round(place)] for place in np.linspace(0, count - 1, min(count, most))] if count else []


def _lengthened(mask: NDArray[np.bool_], count: int) -> NDArray[np.bool_]:
    return np.concatenate([mask, np.ones(count, dtype=np.bool_)])


def _settled(count: int) -> int:
    """Return the largest number up to `count` of a sequence with growth by an eighth."""
    settled = min(count, 8)
    while settled + max(1, settled // 8) <= count:
        settled += max(1, settled // 8)
    return settled


@dataclass(kw_only=True, eq=False)
class _Row:
    params: Mapping[str, Any]
    costs: Floats
    excess: Floats
    curve: Curve | None = None
    learned: int | None = None
    whole: bool = False
    running: bool = False


def _known_row(params: Mapping[str, Any], item: Known, signs: Floats, names: Sequence[str]) -> _Row:
    costs = np.array([np.nan if value is None else value for value in item.values], dtype=np.float64) * signs
    return _Row(params=params, costs=costs, excess=np.array([item.constraints.get(name, np.nan) for name in names]))


def _learned_columns(names: Sequence[str] | None, signs: Floats) -> NDArray[np.bool_]:
    """Mark the objectives not known before training; without names, the maximised ones."""
    if names is None:
        return signs < 0
    return np.array([name not in METRICS or not METRICS[name].known_before_training for name in names])


def _logarithmic_columns(names: Sequence[str] | None, signs: Floats) -> NDArray[np.bool_]:
    """Mark the minimised objectives, and the maximised ones of a metric with a logarithmic scale."""
    scales = np.array([name in METRICS and METRICS[name].log_scale for name in names or ()], dtype=np.bool_)
    minimised: NDArray[np.bool_] = signs > 0
    return minimised if names is None else minimised | scales


def _row(
    trial: FrozenTrial, before: _Row | None, signs: Floats, names: Sequence[str], learned: NDArray[np.bool_]
) -> _Row:
    told, running = trial.values is not None, trial.state == TrialState.RUNNING
    costs = np.array(trial.values, dtype=np.float64) * signs if told else np.full(len(signs), np.nan)
    untrained = trial.user_attrs.get("state") == "over_budget"
    if untrained:
        costs[learned] = np.nan
    ended = {} if running else {FAILED: 1.0 if trial.state == TrialState.FAIL else -1.0}
    excess = np.array([(trial.constraints | ended).get(name, np.nan) for name in names])
    if before is not None:
        costs = np.where(np.isnan(costs), before.costs, costs)
        excess = np.where(np.isnan(excess), before.excess, excess)
    row = _Row(params=trial.params, costs=costs, excess=excess, whole=is_whole(trial), running=running)
    if told and CURVE in trial.user_attrs:
        row.curve = curve_of(trial.user_attrs[CURVE])
        row.learned = _learned(costs, row.curve)
    return row


def _learned(costs: Floats, curve: Curve) -> int | None:
    """Return the column of the learned objective: all other costs equal the curve's known costs."""
    columns = range(len(costs))
    return next((column for column in columns if np.array_equal(np.delete(costs, column), curve.known)), None)


def _table(
    keys: list[Key],
    rows: list[_Row],
    signs: Floats,
    limits: Sequence[str],
    front: set[Key],
    settled: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    own: NDArray[np.bool_],
    *,
    logarithmic: NDArray[np.bool_],
    quality: int | None,
    names: Sequence[str] | None,
) -> Observed:
    costs = np.array([row.costs for row in rows]).reshape(len(rows), len(signs))
    variances = np.zeros_like(costs)
    gains: dict[int, list[float]] = {}
    for row in rows:
        if row.whole and row.curve is not None and row.learned is not None:
            for step, cost in row.curve.points:
                gains.setdefault(step, []).append(row.costs[row.learned] - cost)
    for number, row in enumerate(rows):
        if row.curve is not None and not row.whole and row.learned is not None:
            costs[number, row.learned], variances[number, row.learned] = _extrapolated(row.curve, gains)
    for column in np.flatnonzero(logarithmic):
        values = signs[column] * costs[:, column]
        found = values[np.isfinite(values)]
        if len(found) and (found > 0).all():
            costs[:, column] = signs[column] * np.log(values)
    return Observed(
        keys=keys,
        params=[row.params for row in rows],
        costs=costs,
        variances=variances,
        excess=np.array([row.excess for row in rows]).reshape(len(rows), len(limits)),
        front=np.array([number for number, key in enumerate(keys) if key in front], dtype=np.intp),
        running=np.array([number for number, row in enumerate(rows) if row.running], dtype=np.intp),
        settled=settled,
        own=own,
        quality=quality,
        is_share=quality is not None and names is not None and _is_share(names[quality]),
    )


def _is_share(name: str) -> bool:
    return name in METRICS and METRICS[name].bounds == (0.0, 1.0)


def _extrapolated(curve: Curve, gains: Mapping[int, Sequence[float]]) -> tuple[float, float]:
    """Return the extrapolated learned cost of a stopped training and its variance; nan if too few trials continued."""
    reached = curve.vector(curve.step)
    passed = gains.get(curve.step, ())
    if reached is None or not np.isfinite(reached[0]) or len(passed) < 2:
        return np.nan, 0.0
    return reached[0] + float(np.mean(passed)), float(np.var(passed, ddof=1))
