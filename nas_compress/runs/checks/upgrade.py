"""Adoption of run folders of earlier versions: checksums for their files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas_compress.errors import DamagedFileError
from nas_compress.files import read_sealed_json, write_sealed_json
from nas_compress.runs.checks.model_files import TEACHER, digests, digests_of_teacher, digests_of_trial
from nas_compress.runs.confirmation import read_confirmation, read_repetition, read_test_figures
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import (
    Record,
    read_baseline,
    read_candidate,
    read_record,
    teacher_remedy,
    trial_numbers,
    trial_remedy,
)
from nas_compress.values.file_constants import FORMS
from nas_compress.values.outcome import Measured


def adopt(folder: RunFolder) -> RunFolder:
    """Seal the files of a run folder of an earlier version, and return the folder in today's format.

    The digests of model files are those of today's files; each must have its recorded size. The versions of the last
    run count as those of all trials, because earlier formats keep no others.
    DamagedFileError, before anything is written, if a file is damaged. An interrupted call may be repeated.
    """
    about = folder.about()
    sealed = _trials(folder, about["versions"]) | _teacher(folder) | _confirmation(folder)
    for path, values in sealed.items():
        write_sealed_json(path, values)
    folder.start(about)
    return RunFolder(root=folder.root)


def _trials(folder: RunFolder, versions: Mapping[str, str]) -> dict[Path, dict[str, Any]]:
    sealed = {}
    for number in trial_numbers(folder):
        place = folder.trial(number)
        if read_candidate(folder, number) is not None:
            sealed[place / "candidate.json"] = _plain(place / "candidate.json")
        record = read_record(folder, number)
        if record is not None:
            files = _model_digests(folder, record)
            added: dict[str, Any] = {"files": files, "versions": dict(versions)}
            sealed[place / "outcome.json"] = added | _plain(place / "outcome.json")
    return sealed


def _model_digests(folder: RunFolder, record: Record) -> dict[str, str]:
    if not record.model:
        return {}
    if record.repeats is None:
        _require_size(folder.root / record.model, record.outcome.measured, trial_remedy(folder, record.trial))
    return digests_of_trial(folder, record.model)


def _teacher(folder: RunFolder) -> dict[Path, dict[str, Any]]:
    measured, path = read_baseline(folder), folder.teacher / "outcome.json"
    if measured is None:
        return {}
    _require_size(folder.root / TEACHER, measured, teacher_remedy(folder))
    return {path: {"files": digests_of_teacher(folder)} | _plain(path)}


def _confirmation(folder: RunFolder) -> dict[Path, dict[str, Any]]:
    sealed = {}
    read_confirmation(folder)
    read_test_figures(folder)
    for path in (folder.root / "confirm.json", folder.root / "confirm" / "test.json"):
        if path.is_file():
            sealed[path] = _plain(path)
    for path in folder.root.glob("confirm/*/*/outcome.json"):
        read_repetition(folder, path.parent)
        models = [path.with_name(name) for name in FORMS.values()]
        sealed[path] = {"files": digests(folder.root, models)} | _plain(path)
    return sealed


def _require_size(path: Path, measured: Measured | None, remedy: str) -> None:
    """Raise DamagedFileError unless a file has its recorded size."""
    recorded = None if measured is None else measured.figures.get("size_bytes")
    found = path.stat().st_size if path.is_file() else None
    if found is None:
        raise DamagedFileError(f"{path} is missing. {remedy}")
    if recorded is not None and found != recorded:
        raise DamagedFileError(
            f"{path} is not the file that was measured: it has {found} bytes, its record {recorded:g}. {remedy}"
        )


def _plain(path: Path) -> dict[str, Any]:
    return read_sealed_json(path, required=False)
