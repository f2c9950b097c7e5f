"""Records of finished trials: `trials/<number>/outcome.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nas_compress.errors import RunError, describe
from nas_compress.files import read_json, write_json
from nas_compress.runs.folder import RunFolder
from nas_compress.values.outcome import Measured, Outcome


@dataclass(frozen=True, kw_only=True)
class Record:
    """A finished trial.

    params: the searched parameters. model: path of the file relative to the run folder, empty if another host has it.
    finished_s: seconds of the study's running time. repeats: an earlier trial of the same candidate, whose outcome
    this trial copies.
    """

    trial: int
    params: Mapping[str, Any]
    outcome: Outcome
    finished_s: float
    model: str
    repeats: int | None = None


def write_record(folder: RunFolder, record: Record) -> None:
    """Write the record of a finished trial in one step."""
    write_json(
        folder.trial(record.trial) / "outcome.json",
        {
            "trial": record.trial,
            "params": dict(record.params),
            "finished_s": round(record.finished_s, 3),
            "model": record.model,
            "repeats": record.repeats,
            "outcome": record.outcome.to_dict(),
        },
    )


def read_record(folder: RunFolder, trial: int) -> Record | None:
    """The record of a trial, None if it did not finish; RunError if the file is damaged."""
    path = folder.trial(trial) / "outcome.json"
    if not path.is_file():
        return None
    try:
        values = read_json(path)
        values["outcome"] = Outcome.from_dict(values["outcome"])
        return Record(**values)
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} is damaged ({describe(error)}). Restore it from a copy.") from error


def read_records(folder: RunFolder) -> list[Record]:
    """All records in the order of trial numbers."""
    numbers = sorted(int(path.parent.name) for path in folder.root.glob("trials/*/outcome.json"))
    records = (read_record(folder, number) for number in numbers)
    return [record for record in records if record is not None]


def write_baseline(folder: RunFolder, measured: Measured) -> None:
    """Write the figures of the teacher."""
    write_json(folder.teacher / "outcome.json", measured.to_dict())


def read_baseline(folder: RunFolder) -> Measured | None:
    """The figures of the teacher, None before it was measured."""
    path = folder.teacher / "outcome.json"
    return Measured.from_dict(read_json(path)) if path.is_file() else None
