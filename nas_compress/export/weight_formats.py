"""Storage formats for weights. They differ in file size only; onnxruntime builds the same graph from each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Format of stored integers: as 32-bit floats, one per byte, or packed.

    sparse: leave zeros out if that is smaller; the number of bytes then depends on the weights.
    """

    integers: Literal["floats", "bytes", "packed"] = "packed"
    sparse: bool = False


PACKED = Layout()
"""As many bits in the file as the weights have."""

STEPS: Mapping[str, Layout] = {
    "float32": Layout(integers="floats"),
    "one byte each": Layout(integers="bytes"),
    "packed": Layout(),
    "without zeros": Layout(sparse=True),
}
"""From a 32-bit float per weight of the student to the fewest bytes before compression."""
