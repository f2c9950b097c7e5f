"""What is said of members of few bits that are no faster than in float32."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nas_compress.runs.records import Record
from nas_compress.runs.speed_notes import NOT_COMPARED, quantized_members, speed_note, speed_notes
from nas_compress.values.candidate import Candidate
from nas_compress.values.outcome import Measured, Outcome

MEASURED = Measured(
    figures={"accuracy": 0.9, "latency_ms": 0.3, "size_bytes": 1, "parameters": 1, "macs": 1},
    latency_spread=0.0,
    latency_noisy=False,
)


def record(trial: int, *, bits: int, float32_ms: float | None) -> Record:
    candidate = Candidate(family="vit", depths=(1,), weight_bits=bits)
    measured = replace(MEASURED, float32_latency_ms=float32_ms)
    outcome = Outcome(candidate=candidate, seed=0, state="trained", measured=measured)
    return Record(trial=trial, params={}, outcome=outcome, finished_s=0.0, model="model.onnx")


@pytest.mark.parametrize(
    ("float32_ms", "note"),
    [
        (None, NOT_COMPARED),
        (0.2, "50% slower than its float32 version: 0.3000 ms against 0.2000 ms"),
        (0.297, ""),  # within what repeats differ by
        (0.4, ""),
    ],
)
def test_slower_ones_are_named_with_both_figures(float32_ms: float | None, note: str) -> None:
    assert speed_note(replace(MEASURED, float32_latency_ms=float32_ms)) == note


def test_a_noisy_latency_is_called_so() -> None:
    assert "0.3000 ms (noisy)" in speed_note(replace(MEASURED, latency_noisy=True, float32_latency_ms=0.2))


def test_members_of_few_bits_alone_are_compared_and_alike_notes_stand_together() -> None:
    records = [
        record(0, bits=32, float32_ms=None),
        record(1, bits=8, float32_ms=None),
        record(2, bits=4, float32_ms=0.2),
        record(3, bits=16, float32_ms=None),
        record(4, bits=8, float32_ms=0.1),
    ]
    members: list[int | str] = ["teacher", 0, 1, 2, 3]
    assert [each.trial for each in quantized_members(records, members)] == [1, 2, 3]
    assert list(speed_notes(records, members).values()) == [[1, 3], [2]]
