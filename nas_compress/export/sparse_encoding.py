"""Rows of numbers without their zeros, in the smallest of several formats, as pure functions on numpy arrays.

A `mask` has one bit per number, and the nonzero numbers are stored. `gaps` store with each nonzero number its distance
from the one before (Han et al. 2016, arXiv 1510.00149, section 2), in a fixed number of bits; an extra 0 is stored
wherever a gap is too large.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nas_compress.export.bit_packing import GROUP, Codes, Integers, packed_bytes

GAP_BITS = (2, 3, 4, 5, 6, 7)

MASK_NODES, GAP_NODES = 260, 300
"""Bytes of the nodes that restore the zeros, about a twentieth above their real size."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """Storage format of a row: `dense`, `mask`, or `gaps` of `gap_bits` bits. size_bytes: with nodes."""

    kind: str
    size_bytes: int
    gap_bits: int = 0


def smallest_form(values: Integers, bits: int) -> Form:
    """Return the smallest format for numbers (n,) of `bits` bits each; dense in case of a tie.

    >>> smallest_form(np.arange(8000) % 2, 4)
    Form(kind='mask', size_bytes=3264, gap_bits=0)
    """
    places = np.flatnonzero(values)
    forms = [Form(kind="dense", size_bytes=packed_bytes(len(values), bits))]
    kept = packed_bytes(len(places) + 1, bits)
    forms.append(Form(kind="mask", size_bytes=MASK_NODES + packed_bytes(len(values), 1) + kept))
    for width in GAP_BITS:
        size = GAP_NODES + packed_bytes(_stops(places, width), width + bits)
        forms.append(Form(kind="gaps", size_bytes=size, gap_bits=width))
    return min(forms, key=lambda form: form.size_bytes)


def mean_bits(bits: float, *, zero_fraction: float) -> float:
    """Estimate the bits per number in the smallest format, with zeros at random places.

    A gap of g bits reaches 2^g - 1 places. A number lies farther away with the probability that all of these are 0, and
    then an extra 0 is stored.

    >>> [round(mean_bits(bits, zero_fraction=zeros), 2) for bits, zeros in ((32, 0.0), (32, 0.5), (2, 0.5), (8, 0.9))]
    [32.0, 17.0, 2.0, 1.35]
    """
    kept = 1 - zero_fraction
    gaps = (kept / (1 - zero_fraction ** (2**width - 1)) * (width + bits) for width in GAP_BITS)
    return float(min(bits, 1 + kept * bits, *gaps))


def gaps_and_values(values: Integers, bits: int) -> tuple[Codes, Integers]:
    """Return distances of at most 2^bits - 1, uint8 (m,), and the numbers (m,) at their ends.

    The first distance counts from the place before the first number. m is a multiple of GROUP, padded with distances of
    0, which repeat the last number.
    """
    places, most = np.flatnonzero(values), 2**bits - 1
    distances = np.diff(places, prepend=-1)
    zeros = (distances - 1) // most
    ends = np.cumsum(zeros + 1) - 1
    gaps = np.full(int((zeros + 1).sum()), most, dtype=np.uint8)
    kept = np.zeros(len(gaps), dtype=values.dtype)
    gaps[ends] = distances - zeros * most
    kept[ends] = values[places]
    if not len(gaps):
        gaps, kept = np.ones(1, dtype=np.uint8), values[:1]
    filling = -len(gaps) % GROUP
    return np.append(gaps, np.zeros(filling, dtype=np.uint8)), np.append(kept, np.repeat(kept[-1:], filling))


def _stops(places: Integers, bits: int) -> int:
    """Return the number of values stored by `gaps_and_values`, without padding."""
    return max(1, int(((np.diff(places, prepend=-1) - 1) // (2**bits - 1) + 1).sum()))
