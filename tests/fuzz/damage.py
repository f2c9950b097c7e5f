"""Kinds of damage to one file or folder, each drawn from a seed."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from random import Random

import damage_to_files as files
import damage_to_models as models
import damage_to_values as values
from target import NotApplicableError, Target

from nas_compress.files import DIGEST, digest_of_values

Damage = Callable[[Target], None]

ANY: dict[str, Damage] = {
    "empty": files.empty,
    "garbage": files.garbage,
    "more at the end": files.append,
    "no UTF-8": values.invalid_utf8,
    "byte order mark": values.byte_order_mark,
    "nested deeply": values.nest_deeply,
    "another file": files.swap,
    "missing": files.delete,
    "a folder": files.folder_instead,
    "a link": files.link_to_the_same,
    "a link to another file": files.link_to_another,
    "a link to nothing": files.link_to_nothing,
    "a pipe": files.pipe,
    "unreadable": files.unreadable,
}
"""Kinds for every file."""

CONTENT: dict[str, Damage] = {
    "cut off": files.truncate,
    "one bit": files.flip_bit,
    "zeros": files.null_bytes,
    "twice": files.double,
}
"""Kinds for files that are not empty."""

TEXT: dict[str, Damage] = {"one digit": values.flip_digit, "a line less": values.drop_line}

VALUES: dict[str, Damage] = {
    "another type": values.wrong_type,
    "a key less": values.drop_key,
    "a key more": values.unknown_key,
    "nan": values.nan,
    "a huge number": values.huge,
    "a path outside": values.traverse,
}

PLANTED: dict[str, Damage] = {"planted code": models.planted_code}

ENDINGS: dict[str, dict[str, Damage]] = {
    **dict.fromkeys((".toml", ".csv", ".md", ".log"), TEXT),
    **dict.fromkeys(values.JSON, TEXT | VALUES),
    ".py": TEXT | PLANTED,
    ".pt": PLANTED,
    ".safetensors": {"odd tensors": models.odd_tensors},
    ".onnx": {"external weights": models.external_weights, "an odd graph": models.odd_graph},
    ".xz": {"a bomb": models.bomb},
}
"""Kinds for files with an ending."""

FOLDERS: dict[str, Damage] = {
    "missing": files.delete,
    "emptied": files.emptied,
    "a file": files.file_instead,
    "a link": files.link_to_the_same,
    "a link to nothing": files.link_to_nothing,
    "read-only": files.read_only,
}

AS_OWNER = ("unreadable", "read-only")
"""Kinds that root would not notice."""


def kinds(path: Path) -> dict[str, Damage]:
    """Return the kinds of damage for a file or folder."""
    if path.is_dir():
        return FOLDERS
    return ANY | (CONTENT | ENDINGS.get(path.suffix, {}) if path.stat().st_size else {})


def apply(kind: str, relative: str, place: Path, seed: int) -> bool:
    """Damage a file or folder of the place. False if it cannot have this damage, or did not change."""
    path = place / relative
    target = Target(path=path, place=place, random=Random(f"{kind} {generic(relative)} {seed}"))
    before = path.read_bytes() if path.is_file() else None
    try:
        kinds(path)[kind](target)
    except NotApplicableError:
        return False
    regular = path.is_file() and not path.is_symlink() and os.access(path, os.R_OK)
    return not (regular and kind not in AS_OWNER and before == path.read_bytes())


def is_forged(kind: str, path: Path) -> bool:
    """True if a changed value has a checksum that fits: then no number of the file can be trusted."""
    if kind not in VALUES or path.suffix != ".json":
        return False
    try:
        content = json.loads(path.read_bytes())
    except ValueError:
        return False
    return isinstance(content, dict) and content.pop(DIGEST, None) == digest_of_values(content)


def generic(relative: str) -> str:
    """Return the path with `*` for numbers of trials and fingerprints.

    >>> [generic(path) for path in ("cache/teachers/8c3dad63c659555f/teacher.json", "runs/tiny/trials/3")]
    ['cache/teachers/*/teacher.json', 'runs/tiny/trials/*']
    """
    return re.sub(r"/\d+(?=/|$)", "/*", re.sub(r"[0-9a-f]{16}", "*", relative))
