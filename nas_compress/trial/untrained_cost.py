"""A candidate before training: its shape, its fresh network, and what its file will cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from nas_compress.measurement.pipeline import Stopwatch
from nas_compress.trial.context import TrialContext, planned_bits
from nas_compress.trial.kernel_choice import KernelChoice, choose_kernels
from nas_compress.trial.shape import new_student, student_architecture
from nas_compress.values.architecture import Architecture
from nas_compress.values.candidate import Candidate
from nas_compress.values.model_file import COMPRESSED


@dataclass(frozen=True, kw_only=True, eq=False)
class Untrained:
    """`student` is on the CPU; `layer_bits` are the weight bits of its layers by path; `form` is what ships."""

    architecture: Architecture
    student: nn.Module
    layer_bits: Mapping[str, int]
    form: KernelChoice


def make_untrained(
    candidate: Candidate, context: TrialContext, *, seed: int, folder: Path, name: str, watch: Stopwatch
) -> Untrained:
    """Shape and build the candidate, and measure the untrained files, which stay in `folder`.

    Latency does not depend on the weights, and size only as `sure_size` says. name: of the file that ships; its end
    says whether it is compressed.
    """
    with watch.stage("architecture"):
        architecture = student_architecture(candidate, context.dataset, context.teacher, seed=seed)
        student = new_student(candidate, architecture, context.teacher, seed=seed)
    layer_bits = planned_bits(candidate, student, context)
    form = choose_kernels(
        candidate,
        student,
        folder,
        name=name,
        layer_bits=layer_bits,
        calibration=context.calibration,
        meter=context.meter,
        watch=watch,
    )
    return Untrained(architecture=architecture, student=student, layer_bits=layer_bits, form=form)


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
