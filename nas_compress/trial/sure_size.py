"""What is sure of a file's size before its weights are trained.

Two kinds of files weigh something else once trained: those in a compressed container, and those that leave zeros out,
of which rounding makes more and whose places decide how many bytes the gaps between the others take.
"""

from __future__ import annotations

from nas_compress.values.model_file import COMPRESSED

COMPRESSED_PART = 0.75
"""Part of its bytes before training that a compressed file has at least after it.

63 of students trained on digits for ten epochs, dense ones and those of SPARSE_PART, had 0.988 to 1.101. The rest is
for longer trainings, whose decay may leave more of the weights small.
"""

SPARSE_PART = 0.9
"""The same part of a file without its zeros.

65 such files had 0.957 to 1.000: `one_shot` and `gradual` at 0.5 and 0.8 and `two_four`, each in 32 to 2 bits, as
integers, e4m3 floats and codebooks, rounded after training and in it.
"""


def size_is_sure(name: str, *, zero_pattern: str = "none") -> bool:
    """Whether training leaves the size of a file of that name as it is, of a candidate of that `zero_pattern`.

    >>> size_is_sure("model.onnx"), size_is_sure("model.onnx.xz"), size_is_sure("model.onnx", zero_pattern="gradual")
    (True, False, False)
    """
    return zero_pattern == "none" and not name.endswith(COMPRESSED)


def least_size(size_bytes: int, name: str, *, zero_pattern: str) -> int:
    """The bytes that a file will have at least once it is trained, by those that it has before.

    >>> least_size(1000, "model.onnx", zero_pattern="none"), least_size(1000, "model.onnx", zero_pattern="gradual")
    (1000, 900)
    """
    if size_is_sure(name, zero_pattern=zero_pattern):
        return size_bytes
    return int(size_bytes * (COMPRESSED_PART if name.endswith(COMPRESSED) else SPARSE_PART))
