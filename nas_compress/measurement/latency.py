"""Latency of a file at the sizes of a study's samples."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nas_compress.devices.protocol import Device, Latency
from nas_compress.measurement.graph_key import structure_key
from nas_compress.values.text.lengths import SampleSizes, at_most, at_strata, have_lengths


def measure_latency(path: Path, target: Device, *, sizes: SampleSizes, patient: bool = True) -> Latency:
    """Measure a file once per graph and sizes; see `Device.latency`.

    sizes: of free dimensions by name. With lengths, the latency is the mean over their strata, and a second
    measurement gives that of a long sample.
    """
    key = structure_key(path)
    latency = target.latency(path, sizes=at_strata(sizes), key=key, patient=patient)
    if not have_lengths(sizes):
        return latency
    other = target.latency(path, sizes=at_most(sizes), key=key, patient=patient)
    return replace(latency, long_ms=other.latency_ms, noisy=latency.noisy or other.noisy)
