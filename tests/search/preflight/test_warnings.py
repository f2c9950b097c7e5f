"""What is said before a study runs, and only where it matters."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nas_compress.devices.onnxruntime_cpu.machine import Machine, describe_machine
from nas_compress.search.preflight.warnings import notes
from nas_compress.values.candidate import Candidate, LossTerm

PLAIN = Candidate(family="resnet", depths=(1, 1, 1))
DKD = replace(PLAIN, losses=(LossTerm(name="cross_entropy"), LossTerm(name="dkd")))
INT8 = replace(PLAIN, weight_bits=8, activation_bits=8)
STORED = replace(PLAIN, weight_bits=8)


def machine(system: str, *flags: str) -> Machine:
    return replace(describe_machine(), system=system, flags=flags)


QUIET = machine("Linux x86_64", "avx2", "avx512_vnni")


def test_two_classes_leave_half_of_dkd() -> None:
    assert notes([PLAIN], classes=2, machine=QUIET) == notes([DKD], classes=3, machine=QUIET) == []
    (line,) = notes([PLAIN, DKD], classes=2, machine=QUIET)
    assert "NCKD is 0" in line


@pytest.mark.parametrize(
    ("where", "warned"),
    [
        (machine("Linux x86_64", "avx2", "fma"), True),
        (machine("Windows AMD64"), True),
        (machine("Linux x86_64", "avx2", "avx_vnni"), False),
        (machine("Linux x86_64", "avx2", "avx512f", "amx_int8"), False),
        (machine("Linux aarch64", "asimd"), False),
    ],
    ids=lambda value: " ".join((value.system, *value.flags)) if isinstance(value, Machine) else "",
)
def test_integer_kernels_that_may_saturate_are_named_where_they_are_used(where: Machine, warned: bool) -> None:
    assert notes([PLAIN, STORED], classes=10, machine=where) == []
    told = notes([PLAIN, INT8], classes=10, machine=where)
    assert [("saturate" in line, "\n" in line) for line in told] == [(True, False)] * warned
