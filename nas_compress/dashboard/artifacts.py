"""Artifacts for optuna-dashboard: a trial's files, its learning curve and its place among the other trials."""

from __future__ import annotations

import io
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from optuna.artifacts.exceptions import ArtifactNotFound

from nas_compress.errors import DamagedFileError, RequestError
from nas_compress.plots.pareto import front_picture
from nas_compress.plots.progress_curves import curve_picture
from nas_compress.runs.checks.model_files import read_model
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import Record, read_record
from nas_compress.runs.results import read_front, read_spreads

RECORD = "outcome.json"
"""Name of the record in a trial's folder."""

STUDY_PICTURES = ("front.png", "hypervolume.png")
"""Files offered from the run folder."""

_NAMES = uuid.UUID("6d9a4f6e-0f35-4c0e-9d0c-2f6f0c1f6a10")


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """Name, MIME type (`kind`) and lookup key of an artifact."""

    key: str
    name: str
    kind: str


class RunArtifacts:
    """Optuna's artifact store on a run folder. It is read-only.

    Files are read in place, so that no model is stored twice. Pictures are drawn when they are opened.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._contents: dict[str, Callable[[], bytes]] = {}
        self._drawing = threading.Lock()

    def of_study(self) -> list[Artifact]:
        """Return the pictures of the study."""
        paths = [self._folder.root / name for name in STUDY_PICTURES]
        return [self._artifact(path.name, path.name, "image/png", path.read_bytes) for path in paths if path.is_file()]

    def of_trial(self, number: int) -> list[Artifact]:
        """Return the files and pictures of a finished trial, nothing of a trial with a damaged record."""
        try:
            record = read_record(self._folder, number)
        except DamagedFileError:
            return []
        if record is None:
            return []
        path = self._folder.trial(number) / RECORD
        found = [self._artifact(f"{number}/{RECORD}", RECORD, "application/json", path.read_bytes)]
        if record.model and record.repeats is None:
            name = Path(record.model).name
            content = partial(read_model, self._folder, record)
            found.insert(0, self._artifact(f"{number}/{name}", name, "application/octet-stream", content))
        if record.outcome.curve:
            found.append(self._artifact(f"{number}/curve.png", "curve.png", "image/png", lambda: _curve(record)))
        if record.outcome.measured is not None:
            found.append(self._artifact(f"{number}/place.png", "place.png", "image/png", lambda: self._place(record)))
        return found

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """Return the content of an artifact.

        ArtifactNotFound is raised if there is none, or if its file is gone or not the file that was measured.
        """
        try:
            with self._drawing:  # matplotlib's font cache is not thread-safe
                return io.BytesIO(self._contents[artifact_id]())
        except (KeyError, FileNotFoundError) as error:
            raise ArtifactNotFound(f"no artifact {artifact_id}") from error
        except DamagedFileError as error:
            raise ArtifactNotFound(str(error)) from error

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Raise RequestError: the store is read-only."""
        raise RequestError("the dashboard is read-only: an upload is refused")

    def remove(self, artifact_id: str) -> None:
        """Raise RequestError: the store is read-only."""
        raise RequestError("the dashboard is read-only: a removal is refused")

    def _artifact(self, place: str, name: str, kind: str, content: Callable[[], bytes]) -> Artifact:
        key = str(uuid.uuid5(_NAMES, place))
        self._contents[key] = content
        return Artifact(key=key, name=name, kind=kind)

    def _place(self, record: Record) -> bytes:
        front, spreads = read_front(self._folder), read_spreads(self._folder)
        shown = record.trial if record.repeats is None else record.repeats
        title = f"trial {record.trial} among {len(front.points)}"
        return front_picture(front, title=title, spreads=spreads, trial=shown).png()


def _curve(record: Record) -> bytes:
    outcome = record.outcome
    title = f"trial {record.trial}: learning curve"
    return curve_picture(outcome.curve, planned=outcome.planned_epochs, title=title).png()
