"""Model files of a run folder: their SHA-256 in the records, and the check before a file is read again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from nas_compress.errors import DamagedFileError
from nas_compress.files import digest_of_file
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import Record, read_teacher_files, teacher_remedy, trial_remedy

TEACHER = "teacher/model.onnx"


def digests(root: Path, paths: Iterable[Path]) -> dict[str, str]:
    """Return the SHA-256 of files by their path in the run folder. Missing files are left out."""
    return {path.relative_to(root).as_posix(): digest_of_file(path) for path in paths if path.is_file()}


def digests_of_trial(folder: RunFolder, model: str) -> dict[str, str]:
    """Return the SHA-256 of a trained model, of its earlier generations and of the figures of their ensemble."""
    path = folder.root / model
    generations = sorted(path.parent.glob("generation-*.onnx"))
    return digests(folder.root, [path, *generations, path.with_name("ensemble.json")])


def digests_of_teacher(folder: RunFolder) -> dict[str, str]:
    """Return the SHA-256 of the teacher's model and weights in the run folder."""
    names = ("model.onnx", "teacher.safetensors", "teacher.json")
    return digests(folder.root, [folder.teacher / name for name in names])


def read_model(folder: RunFolder, record: Record) -> bytes:
    """Return the bytes of a trial's model; DamagedFileError unless they are those measured."""
    owner = record.trial if record.repeats is None else record.repeats
    return _checked(folder, record.model, record.files, trial_remedy(folder, owner))


def model_path(folder: RunFolder, record: Record) -> Path:
    """Return the path of a trial's model; DamagedFileError unless it is the file that was measured."""
    read_model(folder, record)
    return folder.root / record.model


def teacher_path(folder: RunFolder) -> Path:
    """Return the path of the teacher's model; DamagedFileError unless it is the file that was measured."""
    require_file(folder, TEACHER, read_teacher_files(folder), teacher_remedy(folder))
    return folder.root / TEACHER


def require_file(folder: RunFolder, name: str, files: Mapping[str, str], remedy: str) -> None:
    """Raise DamagedFileError unless a file has its recorded SHA-256.

    name: path in the run folder. files: SHA-256 by path. remedy: the way out, the end of the message.
    """
    _checked(folder, name, files, remedy)


def _checked(folder: RunFolder, name: str, files: Mapping[str, str], remedy: str) -> bytes:
    """Return the bytes of a file. Without a recorded SHA-256, only a folder of an earlier version passes."""
    path = folder.root / name
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder.root)):
        raise DamagedFileError(f"{path} is a link to a place outside the run folder. {remedy}")
    if not path.is_file():
        raise DamagedFileError(f"{path} is missing. {remedy}")
    content = path.read_bytes()
    expected = files.get(name)
    if expected is None and folder.sealed:
        raise DamagedFileError(f"{path} cannot be checked: its record has no SHA-256 of it. {remedy}")
    if expected not in (None, hashlib.sha256(content).hexdigest()):
        raise DamagedFileError(f"{path} is not the file that was measured: its SHA-256 differs. {remedy}")
    return content
