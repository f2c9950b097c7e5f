"""Warnings about a study's candidates before it runs."""

from __future__ import annotations

from collections.abc import Sequence

from nas_compress.devices.protocol import Device
from nas_compress.devices.table import recorded_caution
from nas_compress.losses.table import TERMS
from nas_compress.values.candidate import Candidate
from nas_compress.values.family_settings import EncoderSettings
from nas_compress.values.precision import SIMULATED


def notes(
    candidates: Sequence[Candidate], *, classes: int | None, target: Device, longest: int | None = None
) -> list[str]:
    """Return one line for each loss and kernel with a warning, and for encoders that read a part of a sample.

    longest: tokens of the longest training sample; None for other inputs.
    """
    found: list[str] = []
    names = {term.name for candidate in candidates for term in candidate.losses}
    if classes is not None:
        found += [warning for name in sorted(names) if (warning := TERMS[name].warning(classes)) is not None]
    if any(SIMULATED in candidate.precision.number_format for candidate in candidates):
        found.append(f"{SIMULATED}: their accuracy is real, their latency is that of float kernels")
    read = [each.shape.settings.max_tokens for each in candidates if isinstance(each.shape.settings, EncoderSettings)]
    if longest is not None and min(read, default=longest) < longest:
        found.append(
            f"encoder: some candidates read the first {min(read)} tokens of samples with up to {longest}, because of "
            "their max_tokens"
        )
    caution = recorded_caution(target.describe())
    if caution and any(candidate.precision.activation_bits == 8 for candidate in candidates):
        found.append(caution)
    return found
