"""Files in an xz container, read with three lines of Python's standard library.

xz codes each byte by its frequency so far (LZMA's adaptive range coder). It replaces the Huffman tables of Deep
Compression (Han et al. 2016, arXiv 1510.00149, section 4): weights of few values take 5 to 25 % more than their
entropy.
"""

from __future__ import annotations

import lzma
from collections.abc import Iterable, Sequence
from math import inf

import onnx

from nas_compress.export.nested_exits import with_thresholds

MAGIC = b"\xfd7zXZ\x00"
"""First bytes of an xz container."""

CONTEXTS = (3, 0)
"""Candidates for the number of bits of the previous byte used as context: text depends on its neighbours, weights do
not.
"""

SMALLEST_DICTIONARY = 4096


def compress(content: bytes) -> bytes:
    """Return the smallest xz container of `content` over CONTEXTS, with a checksum; deterministic."""
    return min((_compress(content, context) for context in CONTEXTS), key=len)


def content_with_thresholds(content: bytes, thresholds: Sequence[float | None]) -> bytes:
    """Return a file with early exits that has other thresholds, in a container if it was in one.

    content: of a model file. thresholds: one per exit before the end, None for no exit.
    """
    packed = content.startswith(MAGIC)
    model = onnx.load_model_from_string(lzma.decompress(content) if packed else content)
    changed = with_thresholds(model, [inf if each is None else each for each in thresholds])
    plain: bytes = changed.SerializeToString(deterministic=True)
    return compress(plain) if packed else plain


def smallest_container(contents: Iterable[bytes]) -> bytes:
    """Return the smallest container of equivalent files."""
    return min((compress(content) for content in contents), key=len)


def _compress(content: bytes, before: int) -> bytes:
    filters = [
        {
            "id": lzma.FILTER_LZMA2,
            "preset": 9 | lzma.PRESET_EXTREME,
            "dict_size": max(SMALLEST_DICTIONARY, len(content)),
            "lc": before,
            "lp": 0,
            "pb": 0,
        }
    ]
    return lzma.compress(content, format=lzma.FORMAT_XZ, check=lzma.CHECK_CRC32, filters=filters)
