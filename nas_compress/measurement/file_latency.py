"""Latency of a file; with early exits that of each exit, and the mean over samples."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from nas_compress.devices.onnx_session import read_model
from nas_compress.devices.protocol import Device, Latency, Sizes
from nas_compress.files import TEMPORARY
from nas_compress.measurement.graph_key import structure_key
from nas_compress.values.exits.figures import equal_rates, expected
from nas_compress.values.exits.settings import EXIT, THRESHOLD
from nas_compress.values.text.lengths import SampleSizes, at_most, at_strata, have_lengths


@dataclass(frozen=True, kw_only=True)
class ExitLatency(Latency):
    """Mean latency over samples. exits_ms: of a sample that leaves at each exit; the end of the network is last."""

    exits_ms: tuple[float, ...]


def count_exits(model: onnx.ModelProto) -> int:
    """Return the number of exits before the end of the network; 0 for a file without exits."""
    if EXIT not in [value.name for value in model.graph.output]:
        return 0
    return sum(value.name.startswith(THRESHOLD) for value in model.graph.input)


def measure_latency(
    path: Path, target: Device, *, sizes: SampleSizes, patient: bool = True, rates: Sequence[float] = ()
) -> Latency:
    """Measure a file once per graph and sizes; see `Device.latency`.

    A file with early exits is measured at each exit. Its latency is the mean, an `ExitLatency`. rates: fraction of the
    samples per exit of such a file; equal ones by default, as an assumption.

    sizes: of free dimensions by name. With lengths, the latency is the mean over their strata, and a second
    measurement gives that of a long sample.
    """
    key, model = structure_key(path), read_model(path)
    if not count_exits(model):
        latency = target.latency(path, sizes=at_strata(sizes), key=key, patient=patient)
        if not have_lengths(sizes):
            return latency
        other = target.latency(path, sizes=at_most(sizes), key=key, patient=patient)
        return replace(latency, long_ms=other.latency_ms, noisy=latency.noisy or other.noisy)
    return _exit_latency(path, model, target, sizes=at_strata(sizes), key=key, patient=patient, rates=rates)


def _exit_latency(
    path: Path,
    model: onnx.ModelProto,
    target: Device,
    *,
    sizes: Sizes,
    key: str,
    patient: bool,
    rates: Sequence[float] = (),
) -> ExitLatency:
    """Measure a file once for each exit, with thresholds that let every sample leave there.

    key: of the file's graph. rates: fraction of the samples per exit; equal ones by default, as an assumption.
    """
    exits = count_exits(model)
    found = []
    with tempfile.TemporaryDirectory(prefix=TEMPORARY, dir=path.parent) as folder:
        for number in range(exits + 1):
            forced = Path(folder) / f"exit{number}.onnx"
            forced.write_bytes(_leaving_at(model, number).SerializeToString())
            found.append(target.latency(forced, sizes=sizes, key=f"{key} exit {number}", patient=patient))
    shares = tuple(rates) or equal_rates(exits)
    exits_ms = tuple(each.latency_ms for each in found)
    energies = [each.energy_mj for each in found if each.energy_mj is not None]
    return ExitLatency(
        latency_ms=expected(exits_ms, shares),
        spread=expected([each.spread for each in found], shares),
        noisy=any(each.noisy for each in found),
        energy_mj=expected(energies, shares) if energies else None,
        exits_ms=exits_ms,
    )


def _leaving_at(model: onnx.ModelProto, number: int) -> onnx.ModelProto:
    """Return a copy in which every sample leaves at one exit. Confidences are finite, so inf lets none leave."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        if tensor.name.startswith(THRESHOLD):
            value = -inf if int(tensor.name.removeprefix(THRESHOLD)) == number else inf
            tensor.CopyFrom(numpy_helper.from_array(np.array([value], dtype=np.float32), tensor.name))
    return copy
