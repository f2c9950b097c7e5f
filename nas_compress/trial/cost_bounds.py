"""Bounds of a trained file's figures, from the untrained file.

Latency is independent of the weights, and so is the size of most files. Two kinds change their size in training:
compressed files, and files without their zeros, because rounding adds zeros and their positions decide how many bytes
the gaps take.
"""

from __future__ import annotations

from dataclasses import replace

from nas_compress.values.device_settings import ENERGY, P95
from nas_compress.values.file_constants import COMPRESSED
from nas_compress.values.metrics.named_device_rows import SIGN
from nas_compress.values.outcome import Measured

COMPRESSED_PART = 0.75
"""Least size of a compressed file after training, as a fraction of its size before.

63 students trained on digits for ten epochs, dense ones and those of SPARSE_PART, had 0.988 to 1.101. The margin is for
longer trainings, whose weight decay may leave more of the weights small.
"""

SPARSE_PART = 0.9
"""Least size of a file without its zeros after training, as a fraction of its size before.

65 such files had 0.957 to 1.000: `one_shot` and `gradual` at 0.5 and 0.8 and `two_four`, each in 32 to 2 bits, as
integers, e4m3 floats and codebooks, rounded after and during training.
"""


OF_EXITS = frozenset({"latency_ms", P95, "samples_per_s", ENERGY, "macs"})
"""Figures of a file with early exits that depend on its training; the untrained file has equal rates of the exits."""


def depends_on_exits(name: str) -> bool:
    """Return True if the exits that samples take decide a figure, on any device.

    >>> depends_on_exits("latency_ms@pi"), depends_on_exits("size_bytes")
    (True, False)
    """
    return name.partition(SIGN)[0] in OF_EXITS


def size_is_sure(name: str, *, zero_pattern: str = "none") -> bool:
    """Return True if training does not change the size of a file of this name.

    >>> size_is_sure("model.onnx"), size_is_sure("model.onnx.xz"), size_is_sure("model.onnx", zero_pattern="gradual")
    (True, False, False)
    """
    return zero_pattern == "none" and not name.endswith(COMPRESSED)


def least_size(size_bytes: int, name: str, *, zero_pattern: str) -> int:
    """Least size of the trained file in bytes, from its size before training.

    >>> least_size(1000, "model.onnx", zero_pattern="none"), least_size(1000, "model.onnx", zero_pattern="gradual")
    (1000, 900)
    """
    if size_is_sure(name, zero_pattern=zero_pattern):
        return size_bytes
    return int(size_bytes * (COMPRESSED_PART if name.endswith(COMPRESSED) else SPARSE_PART))


def least_cost(cost: Measured, name: str, *, zero_pattern: str) -> Measured:
    """Lower bounds of the trained file's figures, from the untrained file's.

    With early exits, every sample may leave at the first one; energy is taken as proportional to latency. Figures on
    named devices are then left out, because only their means over the exits are known.
    """
    least = {"size_bytes": float(least_size(int(cost.figure("size_bytes")), name, zero_pattern=zero_pattern))}
    if cost.exits is not None:
        first = cost.exits.latency_ms[0]
        least |= {"latency_ms": first, P95: first, "macs": cost.exits.macs[0]}
        if "samples_per_s" in cost.figures:
            least["samples_per_s"] = cost.figure("samples_per_s") * cost.figure("latency_ms") / first
        if ENERGY in cost.figures:
            least[ENERGY] = cost.figure(ENERGY) * first / cost.figure("latency_ms")
        cost = replace(
            cost,
            figures={
                name: value for name, value in cost.figures.items() if SIGN not in name or not depends_on_exits(name)
            },
        )
    return cost.with_figures(least)
