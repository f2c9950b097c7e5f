"""A candidate before training: its shape, its fresh network, and what its file will cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from nas_compress.measurement.pipeline import Stopwatch
from nas_compress.trial.context import Bench, planned_bits
from nas_compress.trial.kernel_choice import Form, settle_form
from nas_compress.trial.shape import new_student, student_architecture
from nas_compress.values.architecture import Architecture
from nas_compress.values.candidate import Candidate


@dataclass(frozen=True, kw_only=True, eq=False)
class Untrained:
    """`student` is on the CPU; `layer_bits` are the weight bits of its layers by path; `form` is what ships."""

    architecture: Architecture
    student: nn.Module
    layer_bits: Mapping[str, int]
    form: Form


def make_untrained(
    candidate: Candidate, bench: Bench, *, seed: int, folder: Path, name: str, watch: Stopwatch
) -> Untrained:
    """Shape and build the candidate, and measure the untrained files, which stay in `folder`.

    Latency does not depend on the weights, and size only as `sure_size` says. name: of the file that ships; its end
    says whether it is compressed.
    """
    with watch.stage("architecture"):
        architecture = student_architecture(candidate, bench, seed=seed)
        student = new_student(candidate, architecture, bench.teacher, seed=seed)
    layer_bits = planned_bits(candidate, student, bench)
    form = settle_form(
        candidate,
        student,
        folder,
        name=name,
        layer_bits=layer_bits,
        calibration=bench.calibration,
        target=bench.target,
        watch=watch,
    )
    return Untrained(architecture=architecture, student=student, layer_bits=layer_bits, form=form)
