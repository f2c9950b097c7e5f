"""Files of a store: raw samples, targets, and a sealed description with a digest of each block."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_compress.data.store.block import Shape
from nas_compress.errors import DamagedFileError
from nas_compress.files import read_sealed_bytes, read_sealed_json, write_sealed_bytes, write_sealed_json

FORMAT = 1
"""Number of this layout."""

_CHECKERS = 4
"""Threads that compute digests; hashing releases the interpreter."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Stored:
    """Samples and targets of a store.

    samples: a memory map. targets: one for each sample, in memory. identity: digest of all samples.
    """

    samples: np.memmap[Any, Any]
    targets: NDArray[Any]
    identity: str


def samples_file(folder: Path) -> Path:
    """Return the path of the raw samples."""
    return folder / "samples"


def seal(folder: Path, shape: Shape, digests: Sequence[str], targets: NDArray[Any]) -> None:
    """Write targets and description of finished samples."""
    write_sealed_bytes(folder / "targets", array_bytes(targets))
    write_sealed_json(folder / "store.json", {"format": FORMAT, "shape": asdict(shape), "blocks": list(digests)})


def open_store(folder: Path) -> Stored | None:
    """Open a store after a check of every byte; None if there is none, DamagedFileError if a file is damaged."""
    description, path = folder / "store.json", samples_file(folder)
    if not folder.exists():
        return None
    try:
        about = read_sealed_json(description)
        shape = _shape(about)
        _require_digests(path, shape, about["blocks"])
        targets = array_from(read_sealed_bytes(folder / "targets"))
        values = np.memmap(path, dtype=shape.stored, mode="r", shape=(shape.count, *shape.sample))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DamagedFileError(f"{folder} is damaged: {error}") from error
    if len(targets) != shape.count:
        raise DamagedFileError(f"{folder} is damaged: it has {len(targets)} targets of {shape.count}")
    content = hashlib.sha256("".join(about["blocks"]).encode()).hexdigest()
    return Stored(samples=values, targets=targets, identity=content)


def array_bytes(values: NDArray[Any]) -> bytes:
    """Return an array as the bytes of an `.npy` file."""
    file = io.BytesIO()
    np.save(file, values, allow_pickle=False)
    return file.getvalue()


def array_from(content: bytes) -> NDArray[Any]:
    """Return the array of `array_bytes`."""
    values: NDArray[Any] = np.load(io.BytesIO(content), allow_pickle=False)
    return values


def digest_of_block(path: Path, shape: Shape, block: int) -> str:
    """Return the SHA-256 of a block in the file of samples."""
    span = shape.span(block)
    with path.open("rb") as file:
        file.seek(span.start * shape.row_bytes)
        return hashlib.sha256(file.read(len(span) * shape.row_bytes)).hexdigest()


def _require_digests(path: Path, shape: Shape, digests: Sequence[str]) -> None:
    size = shape.count * shape.row_bytes
    if path.stat().st_size != size or len(digests) != shape.blocks:
        raise DamagedFileError(f"{path} is damaged: it must have {size} bytes, but has {path.stat().st_size}")
    with ThreadPoolExecutor(_CHECKERS) as pool:
        for block, found in enumerate(_in_turn(pool, path, shape)):
            if found != digests[block]:
                raise DamagedFileError(f"{path} is damaged: its content does not match its checksum")


def _in_turn(pool: ThreadPoolExecutor, path: Path, shape: Shape) -> Iterator[str]:
    """Return the digest of each block; a few blocks at a time are in memory."""
    numbers = iter(range(shape.blocks))
    while some := list(islice(numbers, _CHECKERS)):
        yield from pool.map(lambda block: digest_of_block(path, shape, block), some)


def _shape(about: dict[str, Any]) -> Shape:
    if about["format"] != FORMAT:
        raise ValueError(f"its format is {about['format']}")
    values = about["shape"]
    return Shape(**{**values, "sample": tuple(values["sample"]), "target": tuple(values["target"])})
