"""Files that are either whole or not there, and the folder where results are kept between runs."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import platformdirs

TEMPORARY = ".part-"
"""How the names of files and folders begin that are not whole; those of dead processes may be removed."""


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in place in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f"{TEMPORARY}{path.name}.", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        temporary.chmod(0o644)
        _to_disk(temporary)  # a power cut must not leave the new name with nothing behind it
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def tidy(folder: Path) -> None:
    """Remove what dead processes left half written in it."""
    for path in folder.rglob(f"{TEMPORARY}*"):
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file in one step."""
    write_atomically(path, lambda temporary: _fill(temporary, text))


def write_json(path: Path, values: Any) -> None:
    """Write plain values as indented JSON in one step."""
    write_text(path, json.dumps(values, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """The values that `write_json` wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


def cache_folder() -> Path:
    """Where teachers, latencies and downloads are kept: NAS_COMPRESS_CACHE, else the user's cache folder."""
    chosen = os.environ.get("NAS_COMPRESS_CACHE")
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("nas_compress"))


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _fill(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
