"""Warnings about a study's candidates before it runs."""

from __future__ import annotations

from collections.abc import Sequence

from nas_compress.devices.protocol import Device
from nas_compress.devices.table import recorded_caution
from nas_compress.losses.table import TERMS
from nas_compress.values.candidate import Candidate
from nas_compress.values.precision import SIMULATED


def notes(candidates: Sequence[Candidate], *, classes: int | None, target: Device) -> list[str]:
    """Return one line for each loss and kernel with a warning."""
    found: list[str] = []
    names = {term.name for candidate in candidates for term in candidate.losses}
    if classes is not None:
        found += [warning for name in sorted(names) if (warning := TERMS[name].warning(classes)) is not None]
    if any(SIMULATED in candidate.precision.number_format for candidate in candidates):
        found.append(f"{SIMULATED}: their accuracy is real, their latency is that of float kernels")
    caution = recorded_caution(target.describe())
    if caution and any(candidate.precision.activation_bits == 8 for candidate in candidates):
        found.append(caution)
    return found
