"""Latency of a file; with early exits that of each exit, and the mean over samples."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path

import numpy as np
import onnx
import torch

from nas_compress.devices.onnx_session import read_model
from nas_compress.devices.protocol import Device, Latency, Sample, Sizes, Streaming
from nas_compress.export.nested_exits import with_thresholds
from nas_compress.files import TEMPORARY
from nas_compress.measurement.graph_key import structure_key
from nas_compress.tasks.batch import Batch, chosen, count, rows, to_arrays, unpadded
from nas_compress.values.device_settings import PERCENTILES
from nas_compress.values.exits.figures import STREAM_SAMPLES, equal_rates, expected, forecast_p95
from nas_compress.values.exits.settings import EXIT, THRESHOLD
from nas_compress.values.text.measured_lengths import SampleSizes, at_most, at_strata, have_lengths


@dataclass(frozen=True, kw_only=True)
class ExitLatency(Latency):
    """Latency over samples: measured on a stream of real ones, else a forecast by the rates.

    exits_ms: of a sample that leaves at each exit; the end of the network is last. stream_ms: mean, 50th and 95th
    percentile over `stream_samples` samples, empty for a forecast.
    """

    exits_ms: tuple[float, ...]
    stream_ms: tuple[float, ...] = ()
    stream_samples: int = 0


def count_exits(model: onnx.ModelProto) -> int:
    """Return the number of exits before the end of the network; 0 for a file without exits."""
    if EXIT not in [value.name for value in model.graph.output]:
        return 0
    return sum(value.name.startswith(THRESHOLD) for value in model.graph.input)


def stream_of(inputs: Batch, tokens: Sequence[str] = ()) -> list[Sample]:
    """Return STREAM_SAMPLES samples at equal distances, one by one; all of fewer.

    inputs: of a split, on the CPU. tokens: inputs of token ids, whose padding is left out.
    """
    samples = count(inputs)
    kept = min(samples, STREAM_SAMPLES)
    places = torch.arange(kept) * samples // kept
    few = chosen(inputs, places)
    return [to_arrays(unpadded(rows(few, place, place + 1), tokens)) for place in range(kept)]


def measure_latency(
    path: Path,
    target: Device,
    *,
    sizes: SampleSizes,
    patient: bool = True,
    rates: Sequence[float] = (),
    samples: Sequence[Sample] = (),
) -> Latency:
    """Measure a file once per graph and sizes; see `Device.latency`.

    A file with early exits is measured at each exit, and on real samples if the device can. The result is an
    `ExitLatency`. rates: fraction of the samples per exit of such a file; equal ones by default, as an assumption.
    samples: real ones, see `stream_of`; without any, latencies over samples are forecast by the rates.

    sizes: of free dimensions by name. With lengths, the latency is the mean over their strata, and a second
    measurement gives that of a long sample. Without lengths and exits every sample takes the same time, so that the
    95th percentile over samples, if a study names it, is the latency.
    """
    key, model = structure_key(path), read_model(path)
    if count_exits(model):
        forecast = _exit_latency(path, model, target, sizes=at_strata(sizes), key=key, patient=patient, rates=rates)
        return _streamed(forecast, path, target, samples, patient=patient) if samples else forecast
    latency = target.latency(path, sizes=at_strata(sizes), key=key, patient=patient)
    if have_lengths(sizes):
        other = target.latency(path, sizes=at_most(sizes), key=key, patient=patient)
        return replace(latency, long_ms=other.latency_ms, noisy=latency.noisy or other.noisy)
    return replace(latency, long_ms=latency.latency_ms) if target.settings.p95 else latency


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
    """Measure a file once for each exit, with thresholds that let every sample leave there; forecast the others.

    key: of the file's graph. rates: fraction of the samples per exit; equal ones by default, as an assumption.
    """
    exits = count_exits(model)
    found = []
    with tempfile.TemporaryDirectory(prefix=TEMPORARY, dir=path.parent) as folder:
        for number in range(exits + 1):
            forced = Path(folder) / f"exit{number}.onnx"
            forced.write_bytes(_leaving_at(model, number, exits).SerializeToString())
            found.append(target.latency(forced, sizes=sizes, key=f"{key} exit {number}", patient=patient))
    shares = tuple(rates) or equal_rates(exits)
    exits_ms = tuple(each.latency_ms for each in found)
    energies = [each.energy_mj for each in found if each.energy_mj is not None]
    return ExitLatency(
        latency_ms=expected(exits_ms, shares),
        spread=expected([each.spread for each in found], shares),
        noisy=any(each.noisy for each in found),
        long_ms=forecast_p95(exits_ms, shares),
        energy_mj=expected(energies, shares) if energies else None,
        exits_ms=exits_ms,
    )


def _streamed(
    latency: ExitLatency, path: Path, target: Device, samples: Sequence[Sample], *, patient: bool
) -> ExitLatency:
    """Return the latency over real samples in place of the forecast, if the device can measure it."""
    found = stream_latency(path, target, samples, patient=patient)
    if found is None:
        return latency
    each_ms, noisy = found
    return replace(
        latency,
        latency_ms=over_samples(each_ms, target.settings.percentile),
        long_ms=float(np.percentile(each_ms, 95)),
        noisy=latency.noisy or noisy,
        stream_ms=in_figures(each_ms),
        stream_samples=len(each_ms),
    )


def stream_latency(
    path: Path, target: Device, samples: Sequence[Sample], *, patient: bool
) -> tuple[tuple[float, ...], bool] | None:
    """Return the milliseconds of a file for each sample, and whether they are noisy; None if the device cannot."""
    found = target.stream(path, samples, patient=patient) if isinstance(target, Streaming) else None
    return None if found is None else (found.each_ms, found.noisy)


def over_samples(each_ms: Sequence[float], percentile: str) -> float:
    """Return the latency over samples: a percentile above the median if the study asks for it, else the mean."""
    above = PERCENTILES[percentile] if percentile != "median" else None
    return float(np.mean(each_ms) if above is None else np.percentile(each_ms, above))


def in_figures(each_ms: Sequence[float]) -> tuple[float, float, float]:
    """Return mean, 50th and 95th percentile.

    >>> in_figures([1.0, 1.0, 4.0])[:2]
    (2.0, 1.0)
    """
    low, high = np.percentile(each_ms, [50, 95])
    return float(np.mean(each_ms)), float(low), float(high)


def _leaving_at(model: onnx.ModelProto, number: int, exits: int) -> onnx.ModelProto:
    """Return a copy in which every sample leaves at one exit. Confidences are finite, so inf lets none leave."""
    return with_thresholds(model, [-inf if place == number else inf for place in range(exits)])
