"""Texts as UTF-8 bytes, whose words a network hashes itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from nas_compress.tasks.batch import lengths_of
from nas_compress.values.signature import TensorSpec, byte_input
from nas_compress.values.text.hashed_words import MOST, HashedWords, words_of


def hashed_inputs(
    texts: Mapping[str, Sequence[str]], *, buckets: int, longest: int
) -> tuple[TensorSpec, dict[str, NDArray[np.uint8]]]:
    """Return the input of a network of hashed words, and the bytes (N, T) of each split, with 0 behind shorter texts.

    texts: by split, with validation, whose lengths and words are those of measurements. buckets, longest: see
    `HashedWords`. Bytes behind the last word that counts are left out.
    """
    words = HashedWords(buckets=buckets, longest=longest)
    rows = {split: [words.cut(text) for text in given] for split, given in texts.items()}
    found = sum(sum(1 for _ in words_of(row)) for row in rows["validation"])
    spacing = min(MOST, max(2, round(sum(map(len, rows["validation"])) / max(1, found))))
    inputs = {split: padded_bytes(given) for split, given in rows.items()}
    measured = HashedWords(buckets=buckets, longest=longest, spacing=spacing)
    return byte_input(measured, lengths=lengths_of(inputs["validation"])), inputs


def padded_bytes(rows: Sequence[bytes]) -> NDArray[np.uint8]:
    """Return bytes uint8 (N, T) with 0 behind shorter rows.

    >>> padded_bytes([b"a", b"bc"]).tolist()
    [[97, 0], [98, 99]]
    """
    padded = np.zeros((len(rows), max(map(len, rows), default=1)), dtype=np.uint8)
    for row, content in zip(padded, rows, strict=True):
        row[: len(content)] = np.frombuffer(content, dtype=np.uint8)
    return padded
