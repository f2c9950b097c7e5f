"""What optuna-dashboard offers of each trial: its file, its outcome, its learning curve, its place among the others.

Files are read where they lie in the run folder, pictures are drawn when somebody opens them.
"""

from __future__ import annotations

import io
import threading
import uuid
from collections.abc import Callable
from typing import BinaryIO

from optuna.artifacts.exceptions import ArtifactNotFound

from nas_compress.errors import RequestError
from nas_compress.plots.hypervolume_history import curve_picture
from nas_compress.plots.pareto import front_picture
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import Record, read_record
from nas_compress.runs.results import read_front, read_spreads
from nas_compress.values.model_file import FORMS

FILES = {**dict.fromkeys(FORMS.values(), "application/octet-stream"), "outcome.json": "application/json"}
"""What a trial's folder gives."""

STUDY_PICTURES = ("front.png", "hypervolume.png")
"""What the run folder gives."""

_NAMES = uuid.UUID("6d9a4f6e-0f35-4c0e-9d0c-2f6f0c1f6a10")


class RunArtifacts:
    """An artefact store of Optuna's on a run folder. Nothing can be written to it or removed from it."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._known: dict[str, Callable[[], bytes]] = {}
        self._drawing = threading.Lock()

    def of_study(self) -> list[tuple[str, str, str]]:
        """(id, file name, type) of the study's pictures."""
        found = [name for name in STUDY_PICTURES if (self._folder.root / name).is_file()]
        return [(self._keep(name, (self._folder.root / name).read_bytes), name, "image/png") for name in found]

    def of_trial(self, number: int) -> list[tuple[str, str, str]]:
        """(id, file name, type) of what there is of a finished trial."""
        place = self._folder.trial(number)
        told = [
            (self._keep(f"{number}/{name}", (place / name).read_bytes), name, kind)
            for name, kind in FILES.items()
            if (place / name).is_file()
        ]
        record = read_record(self._folder, number)
        if record is not None and record.outcome.curve:
            told.append((self._keep(f"{number}/curve.png", lambda: _curve(record)), "curve.png", "image/png"))
        if record is not None and record.outcome.measured is not None:
            told.append((self._keep(f"{number}/place.png", lambda: self._place(record)), "place.png", "image/png"))
        return told

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """The content of one artefact. ArtifactNotFound where there is none, or its file has gone."""
        try:
            with self._drawing:  # matplotlib's fonts are not made for several threads
                return io.BytesIO(self._known[artifact_id]())
        except (KeyError, FileNotFoundError) as error:
            raise ArtifactNotFound(f"no artefact {artifact_id}") from error

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Refused: the run is only looked at."""
        raise RequestError("the dashboard only shows a run, but something was to be uploaded")

    def remove(self, artifact_id: str) -> None:
        """Refused: the run is only looked at."""
        raise RequestError("the dashboard only shows a run, but something was to be removed")

    def _keep(self, name: str, content: Callable[[], bytes]) -> str:
        key = str(uuid.uuid5(_NAMES, name))
        self._known[key] = content
        return key

    def _place(self, record: Record) -> bytes:
        front, spreads = read_front(self._folder), read_spreads(self._folder)
        answering = record.trial if record.repeats is None else record.repeats
        title = f"trial {record.trial} among {len(front.points)}"
        return front_picture(front, title=title, spreads=spreads, trial=answering).png()


def _curve(record: Record) -> bytes:
    outcome = record.outcome
    title = f"trial {record.trial}: learning curve"
    return curve_picture(outcome.curve, planned=outcome.planned_epochs, title=title).png()
