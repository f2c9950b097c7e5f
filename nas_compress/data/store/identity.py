"""Names of stores: digests of what a data set holds in memory and names on disk, without reading its samples."""

from __future__ import annotations

import hashlib
import os
import pickle
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import torch

from nas_compress.data.store.source import Pair

MOST_FILES, MOST_TEXTS = 200_000, 2_000_000
"""Largest number of files in a folder, and of objects in a data set, that are looked at."""


def digest_of_pairs(pairs: Sequence[Pair]) -> str:
    """Return the SHA-256 of samples with their targets, their types and shapes."""
    digest = hashlib.sha256()
    for pair in pairs:
        for values in pair:
            digest.update(f"{values.dtype.str} {values.shape}".encode())
            digest.update(values.tobytes())
    return digest.hexdigest()


def digest_of_object(value: object) -> str:
    """Return the SHA-256 of an object's pickle, its code, and the state of every file and folder that it names.

    Of an object that cannot be pickled, the attributes that can be are taken. Files count by size and time of change,
    those in a named folder too.
    """
    digest = hashlib.sha256(_code(value))
    own = getattr(value, "_fingerprint", None)  # Hugging Face's own name of a data set
    digest.update(repr(own if isinstance(own, str) else None).encode())
    digest.update(_pickled(value))
    for line in sorted(_named_files(value)):
        digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()


class _Hashed:
    """A file that keeps the digest of what is written."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()

    def write(self, content: bytes) -> int:
        """Add bytes to the digest."""
        self.digest.update(content)
        return len(content)


class _Pickler(pickle.Pickler):
    """Pickles values by their content: no addresses of tensors, and functions by their code."""

    def reducer_override(self, value: object) -> Any:
        """Describe tensors and functions, which pickle has by address or by name."""
        if isinstance(value, torch.Tensor):
            numbers = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
            return str, (f"{value.dtype} {tuple(value.shape)} {hashlib.sha256(numbers.data).hexdigest()}",)
        if isinstance(value, FunctionType):
            kept = [cell.cell_contents for cell in value.__closure__ or ()]
            defaults = (value.__defaults__, value.__kwdefaults__)
            return tuple, ([value.__qualname__, _instructions(value.__code__), defaults, kept],)
        return NotImplemented

    def persistent_id(self, value: object) -> Any:
        """Describe sets, whose order differs from process to process."""
        if not isinstance(value, set | frozenset):
            return None
        return sorted(repr(each) if isinstance(each, str | bytes | int) else _pickled(each).hex() for each in value)


def _instructions(code: CodeType) -> list[object]:
    """Return the instructions of a function and of the functions in it, with their names and constants."""
    constants: list[object] = []
    for each in code.co_consts:
        if isinstance(each, CodeType):
            constants.append(_instructions(each))
        else:
            constants.append(sorted(map(repr, each)) if isinstance(each, frozenset) else repr(each))
    return [code.co_code, code.co_names, constants]


def _pickled(value: object, depth: int = 3) -> bytes:
    """Return the digest of a pickle. depth: levels of attributes that are pickled one by one if the whole cannot be."""
    file = _Hashed()
    try:
        # arrays are hashed where they are, and not copied into the pickle
        _Pickler(file, protocol=5, buffer_callback=lambda each: file.digest.update(each.raw())).dump(value)
    except Exception:  # the user's objects may raise anything
        digest = hashlib.sha256(b"not pickled")
        attributes = getattr(value, "__dict__", {}) if depth > 0 else {}
        for name in sorted(attributes, key=str):
            digest.update(f"{name}\n".encode(errors="surrogateescape") + _pickled(attributes[name], depth - 1))
        return digest.digest()
    return file.digest.digest()


def _code(value: object) -> bytes:
    """Return the text of the module of an object's class, if it has a file."""
    file = getattr(sys.modules.get(type(value).__module__), "__file__", None)
    with suppress(OSError):
        return Path(file).read_bytes() if file else b""
    return b""


def _named_files(value: object) -> Iterator[str]:
    """Describe the files and folders that texts in an object name."""
    seen: set[str] = set()
    for text in _texts(value):
        if text not in seen and 0 < len(text) < 4096 and "\0" not in text:
            seen.add(text)
            yield from _described(Path(text))


def _described(path: Path) -> Iterator[str]:
    found = _stat(path)
    if found is None:
        return
    if stat.S_ISREG(found.st_mode):
        yield _line(path, found)
    elif stat.S_ISDIR(found.st_mode) and not _holds_working_folder(path):
        files = (Path(folder, name) for folder, _, names in os.walk(path) for name in names)
        for file in islice(files, MOST_FILES):
            state = _stat(file)
            yield f"{file}\n" if state is None else _line(file, state)


def _holds_working_folder(path: Path) -> bool:
    with suppress(OSError):  # the working folder may be removed
        return Path.cwd().is_relative_to(path.resolve())
    return False


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except (OSError, ValueError):  # a link to nothing, or a text that is no path
        return None


def _line(path: Path, found: os.stat_result) -> str:
    return f"{path} {found.st_size} {found.st_mtime_ns}\n"


def _texts(value: object) -> Iterator[str]:
    """Return the texts and paths in attributes, lists and mappings of an object."""
    seen, left, count = set[int](), [value], 0
    while left and count < MOST_TEXTS:
        each: Any = left.pop()
        count += 1
        if isinstance(each, str | os.PathLike):
            yield os.fspath(each) if not isinstance(each, str) else each
            continue
        if isinstance(each, int | float | bytes | type(None)) or id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, Mapping):
            left += [*each.keys(), *each.values()]
        elif isinstance(each, list | tuple | set | frozenset):
            left += each
        elif hasattr(each, "__dict__") and not isinstance(each, type) and not callable(each):
            left += vars(each).values()
