"""In which forms a file may keep its weights: all hold the same numbers, of which the runtime makes the same graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How integers are kept: as floats of 32 bits, one in a byte, or packed.

    sparse: zeros are left out where that is smaller, so that the bytes depend on the weights.
    """

    integers: Literal["floats", "bytes", "packed"] = "packed"
    sparse: bool = False


PACKED = Layout()
"""As many bytes as the weights have bits."""

STEPS: Mapping[str, Layout] = {
    "float32": Layout(integers="floats"),
    "one byte each": Layout(integers="bytes"),
    "packed": Layout(),
    "without zeros": Layout(sparse=True),
}
"""From a float of 32 bits for each weight of the student to the fewest bytes, before any compression."""
