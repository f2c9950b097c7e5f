"""Records of finished trials and of the teacher, with checksums: `trials/<number>/outcome.json`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf, isfinite, isnan
from pathlib import Path
from typing import Any, TypeVar

from nas_compress.errors import DamagedFileError, RequestError, first_line
from nas_compress.files import read_sealed_json, write_sealed_json
from nas_compress.runs.checks.plausible import (
    require_plausible_figures,
    require_plausible_files,
    require_plausible_record,
)
from nas_compress.runs.folder import RunFolder
from nas_compress.values.candidate import Candidate
from nas_compress.values.outcome import Measured, Outcome

Parsed = TypeVar("Parsed")

UNREADABLE = (ArithmeticError, AttributeError, LookupError, RequestError, TypeError, ValueError)
"""Errors of readers whose values have other types or ranges than a writer gives them."""

_INFINITE = {"inf": inf, "-inf": -inf}

NUMBER = re.compile(r"0|[1-9][0-9]*")
"""Name of a trial's folder."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """What the sampler got for a trial. Later measurements change the outcome, but not these.

    values: one for each objective, or the reward; empty for a failed trial and after a stop by Optuna's pruner.
    constraints: violation of each budget by its name; <= 0 is satisfied.
    """

    values: tuple[float, ...]
    constraints: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Record:
    """A finished trial.

    params: the searched parameters. model: path of the file relative to the run folder, empty if another host has it.
    finished_s: seconds of the study's running time. repeats: an earlier trial of the same candidate, whose outcome
    this trial copies.
    files: SHA-256 by path of the model and of the files next to it; empty in records of earlier versions.
    versions: of Python and of packages with influence on the outcome.
    told: None in records of earlier versions and of other hosts.
    """

    trial: int
    params: Mapping[str, Any]
    outcome: Outcome
    finished_s: float
    model: str
    repeats: int | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    told: Told | None = None


def at_exit_point(record: Record, exit_point: int | None) -> Record:
    """Return a record with the figures of the file at an exit point; the same object for its own thresholds.

    RequestError if the trial has no such point.
    """
    measured = record.outcome.measured
    if exit_point is None or measured is None:
        return record
    found = measured.at_exit_point(exit_point)
    return record if found is measured else replace(record, outcome=replace(record.outcome, measured=found))


def write_candidate(folder: RunFolder, trial: int, candidate: Candidate) -> None:
    """Write the candidate of a trial before the trial is tried."""
    write_sealed_json(folder.trial(trial) / "candidate.json", candidate.to_dict())


def read_candidate(folder: RunFolder, trial: int) -> Candidate | None:
    """The candidate of a trial, None if it was not written; DamagedFileError if the file is damaged."""
    path = folder.trial(trial) / "candidate.json"
    if not folder.has(path):
        return None
    try:
        return Candidate.from_dict(read_sealed_json(path, required=folder.sealed))
    except (DamagedFileError, *UNREADABLE) as error:
        raise damaged(path, error, trial_remedy(folder, trial)) from error


def write_record(folder: RunFolder, record: Record) -> None:
    """Write the record of a finished trial in one step."""
    write_sealed_json(
        folder.trial(record.trial) / "outcome.json",
        {
            "trial": record.trial,
            "params": dict(record.params),
            "finished_s": round(record.finished_s, 3),
            "model": record.model,
            "repeats": record.repeats,
            "files": dict(record.files),
            "versions": dict(record.versions),
            "told": None if record.told is None else _told_values(record.told),
            "outcome": record.outcome.to_dict(),
        },
    )


def read_record(folder: RunFolder, trial: int) -> Record | None:
    """The record of a trial, None if it did not finish; DamagedFileError if the file is damaged."""
    path = folder.trial(trial) / "outcome.json"
    if not folder.has(path):
        return None
    try:
        values = read_sealed_json(path, required=folder.sealed)
        values["outcome"] = Outcome.from_dict(values["outcome"])
        values["told"] = _read_told(values.get("told"))
        require_plausible_record(values, values["outcome"], trial=trial)
        return Record(**values)
    except (DamagedFileError, *UNREADABLE) as error:
        raise damaged(path, error, trial_remedy(folder, trial)) from error


def _told_values(told: Told) -> dict[str, Any]:
    """Return plain values. JSON has no infinite numbers, so they become text; a sampler may get them."""
    values = [value if isfinite(value) else str(value) for value in told.values]
    return {"values": values, "constraints": dict(told.constraints)}


def _read_told(values: Any) -> Told | None:
    if values is None:
        return None
    told = Told(
        values=tuple(_INFINITE.get(value, value) for value in values["values"]),
        constraints=dict(values["constraints"]),
    )
    numbers = (*told.values, *told.constraints.values())
    if any(type(number) not in (int, float) or isnan(number) for number in numbers):
        raise ValueError(f"told must be numbers, but got {told}")
    return told


def read_records(folder: RunFolder) -> list[Record]:
    """All records in the order of trial numbers; DamagedFileError for the first damaged one."""
    records = (read_record(folder, number) for number in trial_numbers(folder))
    return [record for record in records if record is not None]


def count_records(folder: RunFolder) -> int:
    """Return the number of trials with a record, without reading the records."""
    return sum((folder.trial(number) / "outcome.json").is_file() for number in trial_numbers(folder))


def trial_numbers(folder: RunFolder) -> list[int]:
    """The numbers of all folders in `trials/`, in order; DamagedFileError if `trials` is no folder."""
    folder.has(folder.root / "trials" / "any")
    return sorted(int(path.name) for path in folder.root.glob("trials/*") if NUMBER.fullmatch(path.name))


def ignored_folders(folder: RunFolder) -> list[str]:
    """A line for each folder in `trials/` whose name is no number, such as a copy made by hand."""
    found = sorted(path.name for path in folder.root.glob("trials/*") if path.is_dir())
    strange = [name for name in found if not NUMBER.fullmatch(name) and not name.startswith(".")]
    return [f"trials/{name} is no trial folder and is ignored" for name in strange]


def trial_remedy(folder: RunFolder, trial: int) -> str:
    """Say how to continue without a damaged file of a trial."""
    return (
        f"Restore it from a copy, or remove {folder.trial(trial)} and run the study again: "
        "its candidate is tried again under another number."
    )


def write_baseline(folder: RunFolder, measured: Measured, *, files: Mapping[str, str]) -> None:
    """Write the figures of the teacher. files: SHA-256 by path of its model and of the files next to it."""
    write_sealed_json(folder.teacher / "outcome.json", {**measured.to_dict(), "files": dict(files)})


def read_baseline(folder: RunFolder) -> Measured | None:
    """The figures of the teacher, None before it was measured; DamagedFileError if the file is damaged."""
    found = _read_teacher(folder)
    return None if found is None else found[0]


def require_teacher(folder: RunFolder, records: Sequence[Record]) -> Measured | None:
    """The figures of the teacher, None before the first trial; DamagedFileError if they are missing after it.

    Without them the front would have another hypervolume, or none.
    """
    measured = read_baseline(folder)
    if measured is None and records:
        path = folder.teacher / "outcome.json"
        raise DamagedFileError(f"{path} is missing. {teacher_remedy(folder)}")
    return measured


def read_teacher_files(folder: RunFolder) -> dict[str, str]:
    """SHA-256 by path of the teacher's files; empty before it was measured and in folders of earlier versions."""
    found = _read_teacher(folder)
    return {} if found is None else found[1]


def teacher_remedy(folder: RunFolder) -> str:
    """Say how to continue without a damaged file of the teacher."""
    return f"Restore it from a copy, or remove {folder.teacher} and run the study again: the teacher is measured again."


def _read_teacher(folder: RunFolder) -> tuple[Measured, dict[str, str]] | None:
    def parse(values: Mapping[str, Any]) -> Measured:
        measured = Measured.from_dict(values)
        require_plausible_figures(measured)
        return measured

    return read_with_files(folder, folder.teacher / "outcome.json", parse, remedy=teacher_remedy(folder))


def read_with_files(
    folder: RunFolder, path: Path, parse: Callable[[Mapping[str, Any]], Parsed], *, remedy: str
) -> tuple[Parsed, dict[str, str]] | None:
    """Read a sealed file with the SHA-256 of other files by path in the run folder; None if there is no file.

    parse: from the other values to the result; its errors mean damage. remedy: the way out, the end of the message.
    DamagedFileError if the file is damaged.
    """
    if not folder.has(path):
        return None
    try:
        values = read_sealed_json(path, required=folder.sealed)
        files = values.pop("files", {})
        parsed = parse(values)
        require_plausible_files(files)
        return parsed, files
    except (DamagedFileError, *UNREADABLE) as error:
        raise damaged(path, error, remedy) from error


def damaged(path: Path, error: Exception, remedy: str) -> DamagedFileError:
    """Return the error for a file that could not be read, with the way out."""
    if isinstance(error, DamagedFileError):
        return DamagedFileError(f"{error}. {remedy}")
    text = f"it has no {error}" if isinstance(error, KeyError) else first_line(error)
    return DamagedFileError(f"{path} is damaged: {text}. {remedy}")
