"""Studies and search spaces shipped with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

Kind = Literal["studies", "search_spaces"]


def shipped_folder(kind: Kind) -> Path:
    """The folder inside an installed package, or at the root of a source checkout."""
    package = Path(__file__).parents[1]
    installed = package / "_shipped" / kind
    return installed if installed.is_dir() else package.parent / kind


def shipped_names(kind: Kind) -> list[str]:
    """Built-in names: folders with a study.toml, or files of spaces without their suffix."""
    folder = shipped_folder(kind)
    if kind == "studies":
        return sorted(path.parent.name for path in folder.glob("*/study.toml"))
    return sorted(path.stem for path in folder.glob("*.py"))


def shipped_path(kind: Kind, relative: str) -> Path | None:
    """The path of a built-in file, or None."""
    path = shipped_folder(kind) / relative
    return path if path.is_file() else None
