"""Notes on quantized front members that are simulated or slower than in float32."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nas_compress.devices.protocol import EQUAL_WITHIN
from nas_compress.runs.records import Record
from nas_compress.values.outcome import Measured
from nas_compress.values.precision import SIMULATED

NOT_COMPARED = "not yet compared with its float32 version: a run measures it at its end if the machine is fast"
SIMULATION = f"{SIMULATED} with float kernels: the latency is of the simulation, no device has such kernels"


def quantized_members(records: Sequence[Record], members: Iterable[int | str]) -> list[Record]:
    """The records of the front members without exits and with weights of fewer than 32 bits."""
    wanted = set(members)
    return [
        record
        for record in records
        if record.trial in wanted
        and record.outcome.candidate.precision.weight_bits < 32
        and record.outcome.measured is not None
        and record.outcome.candidate.exits is None  # the float32 version would have other thresholds and rates
    ]


def speed_note(measured: Measured) -> str:
    """A note on the speed of a quantized file; empty if it is at least as fast as in float32."""
    reference = measured.float32_latency_ms
    if reference is None:
        return NOT_COMPARED
    latency = measured.figure("latency_ms")
    if latency <= (1 + EQUAL_WITHIN) * reference:
        return ""
    more = latency / reference - 1
    unsure = " (noisy)" if measured.latency_noisy else ""
    return f"{more:.0%} slower than its float32 version: {latency:.4f} ms{unsure} against {reference:.4f} ms"


def speed_notes(records: Sequence[Record], members: Iterable[int | str]) -> dict[str, list[int]]:
    """The notes on the front members, each with its trials."""
    notes: dict[str, list[int]] = {}
    for record in quantized_members(records, members):
        simulated = SIMULATION if SIMULATED in record.outcome.number_format else ""
        note = speed_note(record.outcome.measured) if record.outcome.measured else ""
        for each in filter(None, (simulated, note)):
            notes.setdefault(each, []).append(record.trial)
    return notes
