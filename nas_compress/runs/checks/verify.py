"""Verification of a run folder by checksums: records, model files, the confirmation and the files of the front."""

from __future__ import annotations

import csv
import math
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nas_compress.errors import DamagedFileError, describe
from nas_compress.files import read_json
from nas_compress.runs.checks.model_files import require_file
from nas_compress.runs.confirmation import read_confirmation, read_repetition, read_test_figures, repetition_remedy
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import (
    Record,
    ignored_folders,
    read_candidate,
    read_record,
    read_teacher_files,
    require_teacher,
    teacher_remedy,
    trial_numbers,
    trial_remedy,
)
from nas_compress.runs.results import make_front, write_front
from nas_compress.runs.saved_epochs import savings
from nas_compress.values.outcome import Measured


@dataclass(kw_only=True, eq=False)
class Verification:
    """Result of a verification.

    records: undamaged records. files: number of files compared with their SHA-256. problems, notes: one line each.
    """

    records: list[Record] = field(default_factory=list)
    teacher: Measured | None = None
    files: int = 0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Keep the message of a damaged or unreadable file as a problem, each once."""
        try:
            yield
        except DamagedFileError as error:
            self._add(str(error))
        except OSError as error:
            self._add(f"{error.filename} cannot be read: {error.strerror}. Make it readable.")

    def _add(self, problem: str) -> None:
        if problem not in self.problems:
            self.problems.append(problem)


def verify_files(folder: RunFolder) -> Verification:
    """Compare every file of a run folder with its checksum; collect all problems.

    Files of other hosts that are not here are left out. The files of the front are compared with the records once the
    study has its trials. DamagedFileError for run.json, without which nothing else can be checked.
    """
    found, spec = Verification(), folder.spec()
    if not folder.sealed:
        found.notes.append("an earlier version wrote the folder without checksums; `nas-compress run` adds them")
    found.notes += ignored_folders(folder)
    for number in trial_numbers(folder):
        _verify_trial(folder, number, found)
    with found.noting():
        found.teacher = require_teacher(folder, found.records)
        files = read_teacher_files(folder)
        for name in files:
            _verify_file(folder, name, files, teacher_remedy(folder), found)
    _verify_confirmation(folder, found)
    if not found.problems and len(found.records) < spec.trials:
        found.notes.append(f"{len(found.records)} of {spec.trials} trials are finished: the front is not compared")
    elif not found.problems:
        _verify_front(folder, found)
    return found


def _verify_trial(folder: RunFolder, number: int, found: Verification) -> None:
    candidate = None
    with found.noting():
        candidate = read_candidate(folder, number)
    with found.noting():
        record = read_record(folder, number)
        if record is None:
            return
        found.records.append(record)
        if candidate is not None and candidate != record.outcome.candidate:
            raise DamagedFileError(
                f"{folder.trial(number) / 'candidate.json'} is damaged: it is not the candidate of the record. "
                f"{trial_remedy(folder, number)}"
            )
        if record.repeats is None:
            names = dict.fromkeys([*([record.model] if record.model else []), *record.files])
            for name in names:
                _verify_file(folder, name, record.files, trial_remedy(folder, number), found)


def _verify_file(folder: RunFolder, name: str, files: Mapping[str, str], remedy: str, found: Verification) -> None:
    found.files += name in files
    with found.noting():
        require_file(folder, name, files, remedy)


def _verify_confirmation(folder: RunFolder, found: Verification) -> None:
    measured: dict[str, str] = {}
    with found.noting():
        read_confirmation(folder)
    with found.noting():
        measured = {name: digest for name, (_, digest) in read_test_figures(folder).items()}
    # The records of trials and of the teacher have their own digests.
    tested = {(folder.root / name).parent for name in measured if name.startswith("confirm/")}
    for place in sorted(tested | {path.parent for path in folder.root.glob("confirm/*/*/outcome.json")}):
        with found.noting():
            known = read_repetition(folder, place)
            if known is None:
                raise DamagedFileError(f"{place / 'outcome.json'} is missing. {repetition_remedy(place)}")
            for name in known[1]:
                _verify_file(folder, name, known[1], repetition_remedy(place), found)


def _verify_front(folder: RunFolder, found: Verification) -> None:
    """Compare front.json and front.csv with the front of the records, without the order of rows and columns."""
    front = make_front(folder.spec(), folder.chance(), found.teacher, found.records)
    with tempfile.TemporaryDirectory(prefix="nas_compress_") as place:
        again = RunFolder(root=Path(place))
        write_front(again, front, savings(found.records, front))
        for name, read in (("front.json", _read_summary), ("front.csv", _read_table)):
            path = folder.root / name
            try:
                same = _equal(read(path), read(again.root / name))
            except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
                found.problems.append(f"{path} is damaged: {describe(error)}. The same `run` command writes it again.")
                continue
            if not same:
                found.problems.append(f"{path} differs from the records. The same `run` command writes it again.")


def _read_summary(path: Path) -> Any:
    values = read_json(path)
    return values | {"members": {member["trial"]: member for member in values["members"]}}


def _read_table(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return {row["trial"]: row for row in csv.DictReader(file)}


def _equal(one: Any, other: Any) -> bool:
    """Compare plain values; numbers within rounding, because the sum of a hypervolume depends on its order."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(value, other[name]) for name, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9)
    return bool(one == other)
