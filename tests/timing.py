"""Small nets and meters for tests of latency."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from nas_compress.devices.onnxruntime_cpu.latency import LatencyMeter
from nas_compress.devices.onnxruntime_cpu.latency_cache import LatencyCache
from nas_compress.devices.onnxruntime_cpu.latency_from_blocks import FastLevel
from nas_compress.devices.onnxruntime_cpu.machine import DEFAULT_NAME, boot_name, describe_machine, settings_key
from nas_compress.devices.onnxruntime_cpu.reference_net import REFERENCE_NAME
from nas_compress.files import cache_folder
from nas_compress.values.device_settings import DEFAULT_SETTINGS, DeviceSettings

SAFE_BLOCKS = 2  # under a level that is far too high, the first two blocks are accepted in any state


def save_net(path: Path, *, channels: int = 8, side: int = 8, input_type: int = TensorProto.UINT8) -> Path:
    generator = np.random.default_rng(1)
    first = numpy_helper.from_array(generator.normal(size=(channels, 1, 3, 3)).astype(np.float32), "first")
    second = numpy_helper.from_array(generator.normal(size=(channels, channels, 3, 3)).astype(np.float32), "second")
    nodes = [
        helper.make_node("Cast", ["input"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["float", "first"], ["middle"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["middle", "second"], ["logits"], pads=[1, 1, 1, 1]),
    ]
    taken = helper.make_tensor_value_info("input", input_type, ["N", 1, side, side])
    given = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", channels, side, side])
    graph = helper.make_graph(nodes, "net", [taken], [given], [first, second])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def cache_in(folder: Path, settings: DeviceSettings = DEFAULT_SETTINGS, fingerprint: str | None = None) -> LatencyCache:
    """The latency cache of a device, by default of onnxruntime with these settings."""
    path = folder / f"{fingerprint or settings_key(describe_machine().key, DEFAULT_NAME, settings)}.json"
    return LatencyCache(path, boot=boot_name(), reference=REFERENCE_NAME)


def learned_level_in(
    folder: Path | None = None,
    *,
    fast_ms: float,
    settings: DeviceSettings = DEFAULT_SETTINGS,
    fingerprint: str | None = None,
) -> None:
    """Keep a fast level in a latency cache; the user's own if `folder` is None."""
    cache_in(folder or cache_folder() / "latency", settings, fingerprint).keep(FastLevel(fast_ms=fast_ms), {})


def meter_with_level(folder: Path, fast_ms: float, *, blocks: int = SAFE_BLOCKS) -> LatencyMeter:
    learned_level_in(folder, fast_ms=fast_ms)
    return LatencyMeter(cache=folder, time_limit_s=0.3, blocks=blocks)
