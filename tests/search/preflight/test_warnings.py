"""What is said before a study runs, and only where it matters."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nas_compress.devices.onnxruntime_cpu.device import OnnxruntimeCpu
from nas_compress.search.preflight.warnings import notes
from nas_compress.values.candidate import Candidate, LossTerm
from nas_compress.values.family_settings import EncoderSettings

PLAIN = Candidate(family="resnet", depths=(1, 1, 1))
DKD = replace(PLAIN, losses=(LossTerm(name="cross_entropy"), LossTerm(name="dkd")))
INT8 = replace(PLAIN, weight_bits=8, activation_bits=8)
STORED = replace(PLAIN, weight_bits=8)


class DescribedCpu(OnnxruntimeCpu):
    """The CPU of another machine."""

    def __init__(self, system: str, *flags: str) -> None:
        super().__init__()
        self.values = {"system": system, "flags": flags}

    def describe(self) -> dict[str, Any]:
        return super().describe() | self.values


QUIET = DescribedCpu("Linux x86_64", "avx2", "avx512_vnni")


def test_two_classes_leave_half_of_dkd() -> None:
    assert notes([PLAIN], classes=2, target=QUIET) == notes([DKD], classes=3, target=QUIET) == []
    (line,) = notes([PLAIN, DKD], classes=2, target=QUIET)
    assert "NCKD is 0" in line


@pytest.mark.parametrize(
    ("where", "warned"),
    [
        (DescribedCpu("Linux x86_64", "avx2", "fma"), True),
        (DescribedCpu("Windows AMD64"), True),
        (DescribedCpu("Linux x86_64", "avx2", "avx_vnni"), False),
        (DescribedCpu("Linux x86_64", "avx2", "avx512f", "amx_int8"), False),
        (DescribedCpu("Linux aarch64", "asimd"), False),
    ],
    ids=lambda value: str(value.values) if isinstance(value, DescribedCpu) else "",
)
def test_integer_kernels_that_may_saturate_are_named_where_they_are_used(where: DescribedCpu, warned: bool) -> None:
    assert notes([PLAIN, STORED], classes=10, target=where) == []
    told = notes([PLAIN, INT8], classes=10, target=where)
    assert [("saturate" in line, "\n" in line) for line in told] == [(True, False)] * warned


def test_an_encoder_that_reads_a_part_of_a_sample_is_named() -> None:
    long = Candidate(family="encoder", depths=(1,), settings=EncoderSettings(max_tokens=64))
    assert notes([PLAIN, long], classes=2, target=QUIET, longest=64) == notes([PLAIN], classes=2, target=QUIET) == []
    (line,) = notes([PLAIN, long], classes=2, target=QUIET, longest=65)
    assert "read the first 64 tokens of samples with up to 65" in line
