"""Latencies measured again: noisy ones, those of another machine, and those that a lost device did not give.

The values reported to the sampler stay unchanged.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nas_compress.callbacks import Notice
from nas_compress.devices.protocol import Device, Sample
from nas_compress.errors import DamagedFileError, TrialError
from nas_compress.measurement.exit_points import time_points
from nas_compress.measurement.file_latency import ExitLatency, measure_latency, stream_of
from nas_compress.measurement.graph_key import structure_key
from nas_compress.measurement.named_devices import NamedDevices
from nas_compress.runs.checks.model_files import model_path, teacher_path
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import Record, read_baseline, read_teacher_files, write_baseline, write_record
from nas_compress.search.progress import Progress
from nas_compress.search.setup import StudyParts
from nas_compress.search.storage.earlier_runs import TAKEN_OVER
from nas_compress.tasks.batch import to_device
from nas_compress.values.metrics.named_device_rows import on_device
from nas_compress.values.metrics.table import METRICS, Budget
from nas_compress.values.outcome import Measured, Outcome
from nas_compress.values.text.measured_lengths import SampleSizes

_COUNTED = ("macs", "parameters")
"""Figures that files of the same graph have in common."""

TIME_LIMIT_S = 30.0
"""Limit for all measurements together, in seconds. Later latencies stay marked as noisy."""


def noisy_members(records: Sequence[Record], members: Iterable[int | str]) -> list[Record]:
    """Return the records of front members with a noisy latency."""
    wanted = set(members)
    return [
        record
        for record in records
        if record.trial in wanted and record.outcome.measured is not None and record.outcome.measured.any_noisy
    ]


def measure_members_again(progress: Progress) -> None:
    """Measure noisy latencies on the front again, once per trial, until no member is untried.

    Before that and after it, files get the steady latency of another file of the same graph.
    """
    tried, parts = set[int](), progress.parts
    while True:
        progress.records = amend(
            progress.folder, progress.records, steady_of_equal_graphs(progress.folder, progress.records, parts.budgets)
        )
        noisy = [r for r in noisy_members(progress.records, progress.members) if r.trial not in tried]
        if not noisy:
            return
        progress.reporter.say(f"measuring noisy latencies of the front again: {len(noisy)}")
        tried.update(record.trial for record in noisy)
        steady = measure_again(
            progress.folder,
            noisy,
            parts.target,
            parts.budgets,
            sizes=parts.sizes,
            samples=lambda record: _samples(parts, record),
            named=parts.named,
        )
        progress.records = amend(progress.folder, progress.records, steady)


def measure_again(
    folder: RunFolder,
    noisy: Sequence[Record],
    target: Device,
    budgets: tuple[Budget, ...],
    *,
    sizes: SampleSizes,
    samples: Callable[[Record], Sequence[Sample]] | None = None,
    named: NamedDevices | None = None,
) -> dict[int, Outcome]:
    """Measure the noisy latencies of each record's file again. Return the outcomes with a steady one by trial.

    sizes: sizes of free dimensions by name. samples: real ones for a file with exits, see `stream_of`. named: further
    devices of the study. DamagedFileError for a file other than the measured one.
    """
    end, steady = time.monotonic() + TIME_LIMIT_S, {}
    for record in noisy:
        known = record.outcome.measured
        if record.model and known is not None and time.monotonic() < end:
            path = model_path(folder, record)
            stream = () if samples is None or known.exits is None else samples(record)
            found = _steadier(known, path, target, sizes=sizes, samples=stream, named=named or NamedDevices())
            if found is not known:
                steady[record.trial] = _with_figures(record.outcome, found, budgets)
    return steady


def steady_of_equal_graphs(
    folder: RunFolder, records: Sequence[Record], budgets: tuple[Budget, ...]
) -> dict[int, Outcome]:
    """Return the outcomes of records whose noisy latency another file of the same graph has without noise, by trial.

    Files with early exits keep theirs, because it depends on the exits that the samples take.
    """
    keys, found = dict[int, str | None](), {}
    timed = [(each, each.outcome.measured) for each in records if each.model and each.repeats is None]
    for record, known in timed:
        if known is None or known.exits is not None or not known.any_noisy:
            continue
        steadier = known
        for other, measured in timed:
            same_cost = measured is not None and all(measured.figures.get(n) == known.figures.get(n) for n in _COUNTED)
            if measured is None or not same_cost or other is record or measured.exits is not None:
                continue
            lacking = [name for name in _noisy_on(steadier) if name not in _noisy_on(measured)]
            if lacking and _key(folder, other, keys) == _key(folder, record, keys) is not None:
                for device in lacking:
                    steadier = _with_latency_of(measured, steadier, device)
        if steadier is not known:
            found[record.trial] = _with_figures(record.outcome, steadier, budgets)
    return found


def measure_missing(progress: Progress) -> None:
    """Ask named devices for figures that they did not give for trained files and the teacher."""
    parts, folder = progress.parts, progress.folder
    parts.named.ask_again()
    progress.teacher = measure_teacher_missing(folder, parts) or progress.teacher
    found = {}
    for record in progress.records:
        known, lacking = record.outcome.measured, _lacking(record.outcome.measured, parts.named)
        if known is None or not lacking or not record.model or record.repeats is not None:
            continue
        try:
            path, samples = model_path(folder, record), () if known.exits is None else _samples(parts, record)
            measured = parts.named.timed(known, path, sizes=parts.sizes, samples=samples, only=lacking)
        except TrialError as error:
            progress.reporter.say(f"trial {record.trial}: {error}")
            continue
        if measured is not known:
            found[record.trial] = _with_figures(record.outcome, measured, parts.budgets)
    progress.records = amend(folder, progress.records, found)


def measure_teacher_missing(folder: RunFolder, parts: StudyParts) -> Measured | None:
    """Ask named devices for figures that they did not give for the run's teacher. Return the teacher's figures."""
    known = read_baseline(folder)
    lacking = _lacking(known, parts.named)
    if known is None or not lacking:
        return known
    measured = parts.named.timed(known, teacher_path(folder), sizes=parts.sizes, only=lacking)
    if measured is not known:
        write_baseline(folder, measured, files=read_teacher_files(folder))
    return measured


def amend(folder: RunFolder, records: Sequence[Record], outcomes: Mapping[int, Outcome]) -> list[Record]:
    """Return the records with new outcomes, also for repeated trials, and write the changed ones."""
    amended = []
    for record in records:
        outcome = outcomes.get(record.trial if record.repeats is None else record.repeats)
        amended.append(record if outcome is None else replace(record, outcome=outcome))
        if outcome is not None:
            write_record(folder, amended[-1])
    return amended


def settle_devices(progress: Progress, *, alone: bool) -> None:
    """Describe the named devices again, because one that was lost at the start may have answered since.

    alone: the study has no other host. Latencies of a device that another machine replaced are then measured again.
    """
    folder, parts = progress.folder, progress.parts
    if alone:
        progress.records = take_over(folder, parts, progress.records, progress.reporter.say)
        progress.teacher = read_baseline(folder) or progress.teacher
    about, described = folder.about(), described_devices(folder, parts)
    if {**about, **described} != about:
        folder.start({**about, **described})


def take_over(folder: RunFolder, parts: StudyParts, records: list[Record], say: Notice) -> list[Record]:
    """Mark latencies as noisy if they were measured by other devices than today's: they are not comparable.

    Return the records as they are then. The teacher is timed again at once.
    """
    target, about = parts.target, folder.about() if folder.marker.is_file() else {}
    before, devices = about.get("machine", {}), about.get("devices", {})
    other = before.get("key", target.fingerprint) != target.fingerprint
    described = parts.named.described(devices)
    changed = [name for name in devices if name in described and described[name].get("key") != devices[name].get("key")]
    if other:
        say(
            f"the run was started on another machine ({before.get('cpu')}) or with another onnxruntime: "
            "latencies on its front are measured again here"
        )
    if changed:
        say(f"not the same device as before: {', '.join(changed)}; its latencies on the front are measured again")
    if other or changed:
        records = mark_noisy(folder, records, target=other, devices=changed)
        _time_teacher_again(folder, parts, target=other, devices=changed)
        moved = {TAKEN_OVER: True} if other else {}
        folder.start({**about, **moved, "machine": target.describe(), **({"devices": described} if described else {})})
    return records


def described_devices(folder: RunFolder, parts: StudyParts) -> dict[str, Any]:
    """Return the entries of run.json with the named devices, and that the run was taken over; empty without any."""
    about = folder.about() if folder.marker.is_file() else {}
    described = parts.named.described(about.get("devices", {}))
    return ({"devices": described} if described else {}) | ({TAKEN_OVER: True} if about.get(TAKEN_OVER) else {})


def mark_noisy(
    folder: RunFolder, records: Sequence[Record], *, target: bool = True, devices: Collection[str] = ()
) -> list[Record]:
    """Mark latencies as noisy, because those of another machine are not comparable. Return the records.

    target: those of the study's own device. Its float32 latencies are removed and measured again for the front.
    devices: names of the further devices.
    """
    marked = {record.trial: _noisy(record.outcome, target=target, devices=devices) for record in records}
    return amend(folder, records, marked)


def _time_teacher_again(folder: RunFolder, parts: StudyParts, *, target: bool, devices: Collection[str]) -> None:
    """Measure latencies of the run's teacher here. Its other figures are kept."""
    known = read_baseline(folder)
    if known is None:
        return
    path, sizes = teacher_path(folder), parts.sizes
    measured = _timed(known, path, parts.target, sizes=sizes) if target else known
    measured = parts.named.timed(measured, path, sizes=sizes, patient=True, only=devices)
    write_baseline(folder, measured, files=read_teacher_files(folder))


def _noisy_on(measured: Measured) -> tuple[str, ...]:
    """Return the devices with a noisy latency; "" is the study's own one."""
    return (*([""] if measured.latency_noisy else []), *measured.noisy_devices)


def _with_latency_of(other: Measured, known: Measured, device: str) -> Measured:
    """Return the figures with those that another file has on a device; unchanged if it has none."""
    rows = {name: METRICS[name] for name in other.figures if name in METRICS}
    figures = {name: other.figures[name] for name, row in rows.items() if row.timed and row.device == device}
    if not figures:
        return known
    spread = other.device_spreads.get(device, 0.0) if device else other.latency_spread
    return known.timed(figures, spread=spread, noisy=False, device=device)


def _key(folder: RunFolder, record: Record, keys: dict[int, str | None]) -> str | None:
    """Return the key of a record's graph; None without its file. keys: those found before, by trial."""
    if record.trial not in keys:
        try:
            keys[record.trial] = structure_key(model_path(folder, record))
        except DamagedFileError:  # `verify` says so
            keys[record.trial] = None
    return keys[record.trial]


def _lacking(measured: Measured | None, named: NamedDevices) -> list[str]:
    """Return the devices without a latency among the figures."""
    figures = {} if measured is None else measured.figures
    return [name for name in named.devices if on_device("latency_ms", name) not in figures]


def _samples(parts: StudyParts, record: Record) -> list[Sample]:
    """Return real samples for a record's file with early exits."""
    validation = parts.dataset.at(record.outcome.candidate.data_size).validation
    return stream_of(to_device(validation.inputs, "cpu"), validation.tokens)


def _steadier(
    known: Measured, path: Path, target: Device, *, sizes: SampleSizes, samples: Sequence[Sample], named: NamedDevices
) -> Measured:
    """Return the figures with each noisy latency that is steady now; the same object if none is."""
    found = known
    if known.latency_noisy:
        again = _timed(known, path, target, sizes=sizes, samples=samples)
        found = found if again.latency_noisy else again
    for name in known.noisy_devices:
        again = named.timed(found, path, sizes=sizes, samples=samples, patient=True, only=[name])
        found = found if name in again.noisy_devices else again
    return found


def _timed(
    known: Measured, path: Path, target: Device, *, sizes: SampleSizes, samples: Sequence[Sample] = ()
) -> Measured:
    exits = known.exits
    rates = () if exits is None else exits.rates
    latency = measure_latency(path, target, sizes=sizes, rates=rates, samples=samples)
    timed = known.timed(latency.figures(target.settings), spread=latency.spread, noisy=latency.noisy)
    if exits is None or not isinstance(latency, ExitLatency):
        return timed
    exits = exits.timed(latency.exits_ms, stream_ms=latency.stream_ms, stream_samples=latency.stream_samples)
    exits, noisy = time_points(path, exits, target, samples, patient=True)
    return replace(timed, exits=exits, latency_noisy=timed.latency_noisy or noisy)


def _with_figures(outcome: Outcome, measured: Measured, budgets: tuple[Budget, ...]) -> Outcome:
    return replace(outcome, measured=measured, reason=measured.shortfall(budgets) or None)


def _noisy(outcome: Outcome, *, target: bool, devices: Collection[str]) -> Outcome:
    measured = outcome.measured
    if measured is None:
        return outcome
    timed = [name for name in devices if name in measured.device_spreads]
    measured = replace(measured, noisy_devices=tuple(dict.fromkeys((*measured.noisy_devices, *timed))))
    if target:
        measured = replace(measured, latency_noisy=True, float32_latency_ms=None)
    return replace(outcome, measured=measured)
