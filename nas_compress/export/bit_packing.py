"""Packing of integers of fewer than 8 bits into bytes, as pure functions on numpy arrays.

A width is a sum of fields of 4, 2 and 1 bits (6 = 4 + 2), because 8 is a multiple of each: a byte of a field holds 8 /
field codes, lowest first, and no code crosses a byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Codes = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
Integers = np.ndarray[tuple[int, ...], np.dtype[Any]]

GROUP = 8
"""Codes are padded with zeros to a multiple of this number, so that every field ends with a whole byte."""


def fields(bits: int) -> tuple[int, ...]:
    """Return the fields of a code of 1 to 7 bits, the highest bits first.

    >>> [fields(bits) for bits in (6, 5, 3, 1)]
    [(4, 2), (4, 1), (2, 1), (1,)]
    """
    return tuple(field for field in (4, 2, 1) if bits & field)


def levels(bits: int) -> tuple[int, ...]:
    """Return the integer of each code: -1 and 1 for one bit, else two's complement, so 0 has the code 0.

    >>> levels(1), levels(2)
    ((-1, 1), (0, 1, -2, -1))
    """
    if bits == 1:
        return (-1, 1)
    return (*range(2 ** (bits - 1)), *range(-(2 ** (bits - 1)), 0))


def zero_first(shared: Sequence[int]) -> tuple[int, ...]:
    """Return a codebook in the order of its codes; its 0, if any, gets the code 0.

    >>> zero_first((-90, -7, 0, 127))
    (0, -90, -7, 127)
    """
    return tuple(sorted(shared, key=lambda value: (value != 0, value)))


def encode(integers: Integers, table: Sequence[int]) -> Codes:
    """Return each integer's code, its index in `table`, in row order: uint8 (n,). ValueError if it is missing there."""
    flat, known = integers.reshape(-1).astype(np.int64), np.array(table)
    order = np.argsort(known, kind="stable")
    codes = order[np.clip(np.searchsorted(known[order], flat), 0, len(known) - 1)]
    if not np.array_equal(known[codes], flat):
        wrong = flat[known[codes] != flat][0]
        raise ValueError(f"integers must be among {sorted(table)}, but got {wrong}")
    return codes.astype(np.uint8)


def pack(codes: Codes, bits: int) -> tuple[Codes, ...]:
    """Return one array of bytes (m,) per field of `fields(bits)`."""
    filled = np.concatenate([codes, np.zeros(-len(codes) % GROUP, dtype=np.uint8)])
    parts, above = [], bits
    for field in fields(bits):
        above -= field
        rows = ((filled >> above) & (2**field - 1)).reshape(-1, GROUP // field)
        parts.append(np.bitwise_or.reduce(rows << shifts(field), axis=1).astype(np.uint8))
    return tuple(parts)


def unpack(parts: tuple[Codes, ...], bits: int, count: int) -> Codes:
    """Return the first `count` codes of packed bytes: uint8 (count,). The file's own nodes do the same."""
    codes = np.zeros(len(parts[0]) * GROUP // fields(bits)[0], dtype=np.uint8)
    for field, part in zip(fields(bits), parts, strict=True):
        read = (part[:, None] >> shifts(field)) & (2**field - 1)
        codes = (codes << field) | read.reshape(-1)
    return codes[:count].astype(np.uint8)


def packed_bytes(count: int, bits: int) -> int:
    """Return the number of bytes of `count` packed codes.

    >>> packed_bytes(9, 3)
    6
    """
    return -(-count // GROUP) * bits


def shifts(field: int) -> Codes:
    """Return the position in bits of each code in a byte."""
    return np.arange(0, GROUP, field, dtype=np.uint8)
