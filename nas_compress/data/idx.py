"""The idx files of the MNIST family: big-endian header, then plain bytes; checked by content before use."""

from __future__ import annotations

import gzip
import hashlib
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas_compress.errors import RunError

_GZIP = b"\x1f\x8b"


def verified_content(path: Path, sha256: str) -> bytes:
    """The file's content, decompressed; RunError where it cannot be read or its SHA-256 is another.

    The decompressed content is what counts: plain and recompressed copies pass, whatever they are called.
    """
    try:
        content = _decompressed(path)
    except (OSError, EOFError, zlib.error) as error:
        raise RunError(f"{path} cannot be read: {error}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise RunError(f"{path} must hold content of SHA-256 {sha256[:12]}…, but got {found[:12]}…")
    return content


def parse_idx(content: bytes) -> NDArray[np.uint8]:
    """The array of an idx file of unsigned bytes; read-only, and no copy."""
    zeros, kind, dimensions = struct.unpack_from(">HBB", content)
    shape = struct.unpack_from(f">{dimensions}I", content, 4)
    if zeros != 0 or kind != 8 or len(content) != 4 + 4 * dimensions + int(np.prod(shape)):
        raise RunError(f"idx content must be unsigned bytes of shape {shape}, but got {len(content)} bytes")
    return np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def _decompressed(path: Path) -> bytes:
    with path.open("rb") as file:
        packed = file.read(2) == _GZIP
    if not packed:
        return path.read_bytes()
    with gzip.open(path) as unpacked:
        return unpacked.read()
