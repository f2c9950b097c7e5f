"""`run.json`, the marker of a run folder: its format, checksum and keys."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas_compress.errors import DamagedFileError, RequestError
from nas_compress.files import read_json, read_sealed_json, write_sealed_json

FORMAT = "nas_compress run 2"

WITHOUT_CHECKSUMS = "nas_compress run 1"
"""Format of earlier versions. Their files are read without checksums until `run` seals them."""

OURS = "nas_compress run "
"""Begin of the name of every format."""

KINDS: Mapping[str, type] = {"study": dict, "study_folder": str, "versions": dict, "machine": dict, "space": dict}
"""Required keys and the types of their values."""


def format_of(path: Path) -> str | None:
    """Return the format named in a run.json of any version; None if the file is missing or of another program."""
    try:
        values = read_json(path)
    except (OSError, ValueError):
        return None
    found = values.get("format") if isinstance(values, dict) else None
    return found if isinstance(found, str) and found.startswith(OURS) else None


def read_marker(path: Path) -> dict[str, Any]:
    """Return the content of run.json.

    DamagedFileError if it is not as it was written, RequestError if a later version wrote it, OSError without a file.
    """
    try:
        values = _known(path)
        for key, kind in KINDS.items():
            if not isinstance(values.get(key), kind):
                raise DamagedFileError(f"{path} is damaged: it has no {key}")
        if "cpu" not in values["machine"]:
            raise DamagedFileError(f"{path} is damaged: it has no machine.cpu")
        if not isinstance(values.get("chance"), dict) and not isinstance(values.get("classes"), int):
            raise DamagedFileError(f"{path} is damaged: it has no chance")
    except DamagedFileError as error:
        raise DamagedFileError(f"{error}. Restore it from a copy, or start a new run with another --out.") from error
    return values


def write_marker(path: Path, values: Mapping[str, Any]) -> None:
    """Write run.json in today's format."""
    write_sealed_json(path, {**values, "format": FORMAT})


def _known(path: Path) -> dict[str, Any]:
    found = format_of(path)
    if found not in (None, FORMAT, WITHOUT_CHECKSUMS):
        raise RequestError(
            f"a run folder must be of the format {FORMAT!r} or earlier, but {path} has {found!r}; "
            "use the version of nas-compress that wrote it"
        )
    return read_sealed_json(path, required=found != WITHOUT_CHECKSUMS)
