"""Names of the attributes of trials and studies in the storage, and checks of their values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isfinite, isnan
from typing import Any

from nas_compress.stopping.optuna_adapter import CURVE

RUN, WORKER = "run", "worker"
"""User attributes of a trial: its run, and the worker process of the run."""

DEATHS = "deaths"
"""User attribute of a trial: number of processes that died during its training."""

POINT = "start_point"
"""User attribute of a trial: its number among the start points."""

CANDIDATE = "candidate"
"""User attribute of a trial: its candidate, from the proposal on."""

FILE, OUTCOME, MACHINE = "file", "record", "machine"
"""User attributes of a trial in a database: its file's name in the shared store, its outcome, its latency's machine.
MACHINE is also an attribute of the study: the machine with the latencies that count."""

ALIVE = "alive"
"""Prefix of user attributes of the study: the heartbeat of each run."""

IDENTITY = "nas_compress"
"""User attribute of the study: its identity."""

STARTED = "nas_compress:start_points"
"""User attribute of the study: its start points are queued. A resumed run does not queue them again."""

FIXED = "fixed_params"
"""Optuna's system attribute of a queued trial: its given parameters."""


def is_count(value: object) -> bool:
    """True for a whole number that is not negative and not huge."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


def is_number(value: object) -> bool:
    """True for a number that a float can hold, except NaN. It may be infinite."""
    if isinstance(value, float):
        return not isnan(value)
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**300


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_curve(value: Any) -> bool:
    """True for the value of `curve_attribute`: rising steps, each with a finite cost or None."""
    steps = [step for step, _ in value["points"]]
    costs = [cost for _, cost in value["points"] if cost is not None] + value["known"]
    return (
        all(map(is_count, [*steps, value["planned"]]))
        and steps == sorted(set(steps))
        and all(is_number(cost) and isfinite(cost) for cost in costs)
        and (value["spoke_at"] is None or is_count(value["spoke_at"]))
    )


KINDS: Mapping[str, Callable[[Any], bool]] = {
    RUN: _is_text,
    WORKER: is_count,
    DEATHS: is_count,
    POINT: is_count,
    CURVE: _is_curve,
}
"""Checks of the attributes that samplers, stopping rules and the recovery of trials read."""
