"""Layout of a run folder, its lock, and the search for runs by name."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from nas_compress.config.schema import StudySpec
from nas_compress.config.study_file import parse_spec
from nas_compress.errors import DamagedFileError, RequestError, RunError, nearest
from nas_compress.files import FileLock, in_use, removed_folder, tidy
from nas_compress.runs.marker import WITHOUT_CHECKSUMS, format_of, read_marker, write_marker
from nas_compress.values.candidate import Candidate
from nas_compress.values.metrics.table import chance_levels


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """`runs/<study name>/`: storage, teacher/, trials/<number>/, front.csv, front.json, front.png."""

    root: Path

    @property
    def marker(self) -> Path:
        """The file with the study, the versions and the machine."""
        return self.root / "run.json"

    @property
    def journal(self) -> Path:
        """Optuna's journal. The path is absolute because a relative one can block the lock of the journal."""
        return (self.root / "study.journal").absolute()

    @property
    def log(self) -> Path:
        """The progress lines of all runs of this study, with times."""
        return self.root / "run.log"

    @property
    def teacher(self) -> Path:
        """The folder of the teacher."""
        return self.root / "teacher"

    def trial(self, number: int) -> Path:
        """The folder of one trial."""
        return self.root / "trials" / str(number)

    @property
    def checkpoints(self) -> Path:
        """States of interrupted trainings by candidate. It exists until the run has reached its total."""
        return self.root / "checkpoints"

    def checkpoint(self, candidate: Candidate) -> Path:
        """The saved state of the training of a candidate."""
        return self.checkpoints / f"{candidate.fingerprint}.pt"

    def has(self, path: Path) -> bool:
        """True if a file of the run folder is there.

        DamagedFileError if something else has its name or that of its folder, such as a link to nowhere.
        """
        if path.is_file():
            return True
        for place in (path, *path.parents):
            if place == self.root:
                break
            if os.path.lexists(place) and (place == path or not place.is_dir()):
                raise DamagedFileError(
                    f"{place} is damaged: it is no {'file' if place == path else 'folder'}. "
                    "Restore it from a copy, or remove it and run the study, or confirm, again."
                )
        return False

    def tidy(self) -> None:
        """Remove partly written files of dead processes. Call it only while the folder is locked."""
        tidy(self.root)

    @cached_property
    def sealed(self) -> bool:
        """True if a file without a checksum is damaged, False for a folder of an earlier version."""
        return format_of(self.marker) != WITHOUT_CHECKSUMS

    def spec(self) -> StudySpec:
        """The specification of the study when it was started."""
        return parse_spec(self.about()["study"], str(self.marker))

    def about(self) -> dict[str, Any]:
        """The content of `run.json`; DamagedFileError if it is not as it was written."""
        return read_marker(self.marker)

    def chance(self) -> dict[str, float]:
        """The chance levels of the study by metric. Older runs have the number of classes only."""
        about = self.about()
        levels: dict[str, float] = about["chance"] if "chance" in about else chance_levels(int(about["classes"]))
        return levels

    def start(self, values: Mapping[str, Any]) -> None:
        """Write the marker of the run folder in today's format."""
        write_marker(self.marker, values)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder against a second run, until the block or the process ends.

        A new folder is removed again if it stays empty. RunError if the folder is removed during the block.
        """
        made = not self.root.exists()
        self.root.mkdir(parents=True, exist_ok=True)
        path = self.root / ".lock"
        lock = FileLock(path)
        try:
            if not lock.take():
                raise RunError(f"Another process runs the study in {self.root}. Wait for its end or use --out.")
        except OSError as error:
            raise RunError(
                f"the run folder must be on a disk with file locks, but {self.root} got {error}; use --out"
            ) from error
        try:
            with in_use(self.root, lock):
                yield
        except Exception as error:
            if lock.in_place():
                raise
            raise removed_folder(self.root) from error
        finally:
            if lock.in_place() and list(self.root.iterdir()) == [path]:
                path.unlink()
                if made:
                    self.root.rmdir()
            lock.close()


def open_run(run: str | Path) -> RunFolder:
    """Open a run by its folder or by the name of a study under `runs/`.

    RequestError if there is none, DamagedFileError if its run.json is not as it was written.
    """
    folders = [RunFolder(root=root) for root in (Path(run), Path("runs") / run) if root.is_dir()]
    for folder in folders:
        if _is_ours(folder):
            return folder
    if folders:
        state = "has no run.json of ours" if any(folders[0].root.iterdir()) else "is empty"
        raise RequestError(f"RUN must be a run folder of nas-compress, but {folders[0].root} {state}")
    known = [path.parent.name for path in Path("runs").glob("*/run.json")]
    hint = nearest(str(run), known) if known else "; there are no runs yet"
    raise RequestError(f"RUN must be a run folder or the name of a study under runs/, but got {str(run)!r}{hint}")


def _is_ours(folder: RunFolder) -> bool:
    """Return False for a folder of something else; raise an error for a damaged run."""
    if format_of(folder.marker) is not None or (folder.marker.is_file() and (folder.root / "trials").is_dir()):
        folder.about()
        return True
    return False


def require_free(root: Path) -> None:
    """Raise RequestError if `root` holds anything but a run: it would be overwritten.

    DamagedFileError if the run.json of a run is not as it was written.
    """
    if root.exists() and not root.is_dir():
        raise RequestError(f"--out must be a folder, but {root} is a file")
    folder = RunFolder(root=root)
    if folder.marker.exists() and not _is_ours(folder):
        raise RequestError(
            f"--out must be a run folder or a new one, but {folder.marker} is not a whole run.json of nas-compress"
        )
    if root.is_dir() and not folder.marker.is_file():
        if any(root.glob("trials/*/outcome.json")):
            raise DamagedFileError(
                f"{folder.marker} is missing. Restore it from a copy, or start a new run with another --out."
            )
        ours = {".lock", ".journal.lock", "teacher", "study.journal", "hosts", "run.log"}
        foreign = [path.name for path in root.iterdir() if path.name not in ours]
        if foreign:
            raise RequestError(
                f"--out must be a run folder or a new one, but {root} holds other files, such as {foreign[0]}"
            )
