"""Latency of a file on real samples, one by one. No figure is compared with a clock time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nas_compress.devices.onnxruntime_cpu.device import OnnxruntimeCpu
from nas_compress.devices.onnxruntime_cpu.latency_from_blocks import Block, FastLevel
from nas_compress.devices.onnxruntime_cpu.stream import PASSES, settle_stream, spread
from nas_compress.devices.protocol import Streaming
from nas_compress.errors import RequestError
from nas_compress.measurement.file_latency import in_figures, over_samples
from timing import meter_with_level, save_net

SAMPLES = [{"input": np.full((1, 1, 8, 8), place, dtype=np.uint8)} for place in range(30)]


def block(bracket_ms: float, *runs_ms: float) -> Block:
    return Block(before_ms=bracket_ms, value_ms=0.0, after_ms=bracket_ms, runs_ms=runs_ms)


def test_each_sample_has_the_median_of_its_passes_in_the_fast_state() -> None:
    level = FastLevel(fast_ms=1.0)
    passes = [block(1.0, 1.0 + each, 9.0) for each in range(PASSES)]
    found = settle_stream([[block(3.0, 99.0, 99.0), *passes], passes], level, alone=True)
    assert found.each_ms == (3.0, 9.0, 3.0, 9.0)
    assert not found.noisy
    assert settle_stream([passes], level, alone=False).noisy


def test_without_a_fast_state_the_passes_are_scaled_and_noisy() -> None:
    found = settle_stream([[block(2.0, 4.0), block(4.0, 8.0)]], FastLevel(fast_ms=1.0), alone=True)
    assert found.each_ms == (2.0,)
    assert found.noisy


def test_a_device_times_a_file_on_samples(tmp_path: Path) -> None:
    device = OnnxruntimeCpu(meter_with_level(tmp_path, 1e6))
    assert isinstance(device, Streaming)
    found = device.stream(save_net(tmp_path / "net.onnx"), SAMPLES)
    assert found is not None
    assert len(found.each_ms) == len(SAMPLES)
    assert min(found.each_ms) > 0


def test_samples_that_do_not_fit_the_file_are_refused(tmp_path: Path) -> None:
    device = OnnxruntimeCpu(meter_with_level(tmp_path, 1e6))
    net = save_net(tmp_path / "net.onnx")
    with pytest.raises(RequestError, match="at least one sample must be timed"):
        device.stream(net, [])
    with pytest.raises(RequestError, match="the model must run on one sample"):
        device.stream(net, [{"input": np.zeros((1, 1, 4, 4), dtype=np.float64)}])


def test_fewer_samples_are_at_equal_distances() -> None:
    assert spread(list(range(10)), 4) == [0, 2, 5, 7]
    assert spread([1, 2], 4) == [1, 2]


def test_the_latency_over_samples_is_the_mean_or_the_percentile_of_the_study() -> None:
    each_ms = [1.0] * 94 + [3.0] * 6
    assert in_figures(each_ms) == (pytest.approx(1.12), 1.0, 3.0)
    assert over_samples(each_ms, "median") == over_samples(each_ms, "mean") == pytest.approx(1.12)
    assert over_samples(each_ms, "p95") == 3.0
