"""Repeated measurement of noisy latencies after the trials.

The values reported to the sampler stay unchanged.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from nas_compress.devices.protocol import Device, Latency
from nas_compress.measurement.pipeline import measure_latency
from nas_compress.runs.checks.model_files import model_path, teacher_path
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import Record, read_baseline, read_teacher_files, write_baseline, write_record
from nas_compress.search.progress import Progress
from nas_compress.values.device_settings import DeviceSettings
from nas_compress.values.metrics.table import Budget
from nas_compress.values.outcome import Measured, Outcome
from nas_compress.values.signature import Lengths

TIME_LIMIT_S = 30.0
"""Limit for all measurements together, in seconds. Later latencies stay marked as noisy."""


def noisy_members(records: Sequence[Record], members: Iterable[int | str]) -> list[Record]:
    """Return the records of front members with a noisy latency."""
    wanted = set(members)
    return [
        record
        for record in records
        if record.trial in wanted and record.outcome.measured is not None and record.outcome.measured.latency_noisy
    ]


def measure_members_again(progress: Progress) -> None:
    """Measure noisy latencies on the front again, once per trial, until no member is untried."""
    tried = set[int]()
    while noisy := [r for r in noisy_members(progress.records, progress.members) if r.trial not in tried]:
        progress.reporter.say(f"measuring noisy latencies of the front again: {len(noisy)}")
        tried.update(record.trial for record in noisy)
        parts = progress.parts
        steady = measure_again(progress.folder, noisy, parts.target, parts.budgets, sizes=parts.sizes)
        progress.records = amend(progress.folder, progress.records, steady)


def measure_again(
    folder: RunFolder,
    noisy: Sequence[Record],
    target: Device,
    budgets: tuple[Budget, ...],
    *,
    sizes: Mapping[str, int | Lengths],
) -> dict[int, Outcome]:
    """Measure the latency of each record's file again. Return the steady outcomes by trial.

    sizes: sizes of free dimensions by name. DamagedFileError for a file other than the measured one.
    """
    end, steady = time.monotonic() + TIME_LIMIT_S, {}
    for record in noisy:
        if record.model and time.monotonic() < end:
            latency = measure_latency(model_path(folder, record), target, sizes=sizes)
            if not latency.noisy:
                steady[record.trial] = _with_latency(record.outcome, latency, target.settings, budgets)
    return steady


def amend(folder: RunFolder, records: Sequence[Record], outcomes: Mapping[int, Outcome]) -> list[Record]:
    """Return the records with new outcomes, also for repeated trials, and write the changed ones."""
    amended = []
    for record in records:
        outcome = outcomes.get(record.trial if record.repeats is None else record.repeats)
        amended.append(record if outcome is None else replace(record, outcome=outcome))
        if outcome is not None:
            write_record(folder, amended[-1])
    return amended


def mark_noisy(folder: RunFolder, records: Sequence[Record]) -> list[Record]:
    """Mark every latency as noisy, because latencies of another machine are not comparable. Return the records.

    The float32 latencies are removed and measured again for the front.
    """
    return amend(folder, records, {record.trial: _noisy(record.outcome) for record in records})


def time_teacher_again(folder: RunFolder, target: Device, *, sizes: Mapping[str, int | Lengths]) -> None:
    """Measure the latency of the run's teacher here. Its other figures are kept."""
    known = read_baseline(folder)
    if known is not None:
        latency = measure_latency(teacher_path(folder), target, sizes=sizes)
        write_baseline(folder, _timed(known, latency, target.settings), files=read_teacher_files(folder))


def _noisy(outcome: Outcome) -> Outcome:
    if outcome.measured is None:
        return outcome
    return replace(outcome, measured=replace(outcome.measured, latency_noisy=True, float32_latency_ms=None))


def _with_latency(outcome: Outcome, latency: Latency, settings: DeviceSettings, budgets: tuple[Budget, ...]) -> Outcome:
    if outcome.measured is None:
        raise ValueError("a trial without figures has no latency to measure again")
    measured = _timed(outcome.measured, latency, settings)
    return replace(outcome, measured=measured, reason=measured.broken_budgets(budgets) or None)


def _timed(measured: Measured, latency: Latency, settings: DeviceSettings) -> Measured:
    timed = measured.with_figures(latency.figures(settings))
    return replace(timed, latency_spread=latency.spread, latency_noisy=latency.noisy)
