"""Measure the spread of latency over repeats, next to the plain median over the same time.

    python benchmarks/latency.py [--quick] [--beside 1]

Three convolution stacks of about 0.1, 0.5 and 6 ms are measured 20 times each (5 with --quick). `gated` is the meter of
this tool, patient as at the end of a study. `median` uses all runs within the same number of seconds, each after one of
the meter. Percentages are of the median.

`--beside N` compares three states in turn: N processes train and pause for the measurement (`window`), train without
pausing (`no window`), or rest.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from nas_compress.devices.onnxruntime_cpu.latency import LatencyMeter
from nas_compress.devices.onnxruntime_cpu.machine import describe_machine
from nas_compress.devices.onnxruntime_cpu.timed_session import TimedNet
from nas_compress.devices.onnxruntime_cpu.training_pause import QuietWindow

STACKS = {"0.1 ms": (16, 7, 14), "0.5 ms": (64, 5, 14), "6 ms": (64, 14, 28)}
"""Channels, 3x3 convolutions and side of the image."""


def conv_stack(channels: int, layers: int, side: int) -> bytes:
    """Write an ONNX file of equal convolutions; `input` is uint8 (N, 1, side, side)."""
    generator = np.random.default_rng(0)
    nodes = [helper.make_node("Cast", ["input"], ["0"], to=TensorProto.FLOAT)]
    weights = []
    for layer in range(layers):
        shape = (channels, channels if layer else 1, 3, 3)
        values = generator.standard_normal(shape).astype(np.float32) / np.float32(np.prod(shape[1:]) ** 0.5)
        weights.append(numpy_helper.from_array(values, f"w{layer}"))
        nodes.append(helper.make_node("Conv", [f"{layer}", f"w{layer}"], [f"c{layer}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{layer}"], [f"{layer + 1}"]))
    nodes.append(helper.make_node("GlobalAveragePool", [f"{layers}"], ["logits"]))
    taken = helper.make_tensor_value_info("input", TensorProto.UINT8, ["N", 1, side, side])
    given = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", channels, 1, 1])
    graph = helper.make_graph(nodes, "stack", [taken], [given], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def plain_median(model: Path, seconds: float) -> float:
    """Return the median over single runs for a number of seconds."""
    net = TimedNet(model, block_ms=1e-6)  # a block of one run
    end = time.perf_counter() + seconds
    values = [net.block_ms()]
    while time.perf_counter() < end:
        values.append(net.block_ms())
    return statistics.median(values)


def row(name: str, estimator: str, values: list[float], seconds: list[float], noisy: str) -> str:
    median = statistics.median(values)
    strays = 100 * statistics.stdev(values) / median, 100 * (max(values) - min(values)) / median
    took = f"{statistics.median(seconds):8.2f} {max(seconds):8.2f}"
    return f"{name:8} {estimator:10} {median:9.4f} {strays[0]:7.2f} {strays[1]:9.2f} {took}  {noisy}"


def train_on(folder: Path, rest: Event) -> None:
    """Train forever in batches of about 20 ms, in the quiet window of a folder; pause while `rest` is set."""
    import torch
    from torch import nn

    torch.set_num_threads(1)
    window = QuietWindow(folder)
    net = nn.Sequential(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.Flatten(), nn.Linear(4608, 10))
    batch = torch.rand(64, 1, 16, 16)
    with window.busy():
        while True:
            net(batch).sum().backward()
            window.pause()
            while rest.is_set():
                time.sleep(0.01)
                window.pause()


@contextmanager
def trainers(count: int, folder: Path) -> Iterator[Event]:
    """Start training processes; the event pauses them."""
    context = multiprocessing.get_context("spawn")
    rest = context.Event()
    processes = [context.Process(target=train_on, args=(folder, rest), daemon=True) for _ in range(count)]
    for process in processes:
        process.start()
    try:
        yield rest
    finally:
        for process in processes:
            process.kill()
            process.join()


def compare(count: int, repeats: int, folder: Path) -> None:
    """Compare latencies while others train with those while they rest."""
    levels = {"resting": folder, "window": folder, "no window": folder / "apart"}
    meters = {name: LatencyMeter(cache=place) for name, place in levels.items()}
    with trainers(count, folder) as rest:
        for name, sizes in STACKS.items():
            model = folder / "stack.onnx"
            model.write_bytes(conv_stack(*sizes))
            found: dict[str, list[float]] = {how: [] for how in meters}
            noisy = dict.fromkeys(meters, 0)
            for _ in range(repeats):
                for how, meter in meters.items():
                    (rest.set if how == "resting" else rest.clear)()
                    time.sleep(0.1)
                    latency = meter.measure(model, patient=True)
                    noisy[how] += latency.noisy
                    if not latency.noisy:
                        found[how].append(latency.latency_ms)
            medians = {how: statistics.median(values) if values else float("nan") for how, values in found.items()}
            for how, median in medians.items():
                ratio = median / medians["resting"]
                print(f"{name:8} {how:10} {median:9.4f} {100 * (ratio - 1):+7.2f} %  {noisy[how]} of {repeats} noisy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="5 repeats instead of 20")
    parser.add_argument("--beside", type=int, metavar="N", help="beside N training processes")
    given = parser.parse_args()
    repeats = 5 if given.quick else 20
    if given.beside:
        print(f"{describe_machine()}; {repeats} repeats beside {given.beside} training processes")
        with tempfile.TemporaryDirectory() as folder:
            compare(given.beside, repeats, Path(folder))
        return
    print(f"{describe_machine()}; {repeats} repeats")
    print("net      estimator         ms   std % max-min %   s, med    s, max  noisy")
    with tempfile.TemporaryDirectory() as folder:
        meter = LatencyMeter(cache=Path(folder))
        for name, sizes in STACKS.items():
            model = Path(folder) / "stack.onnx"
            model.write_bytes(conv_stack(*sizes))
            meter.measure(model)  # learns the fast level, if this is the first
            gated, plain, seconds = [], [], []
            for _ in range(repeats):
                start = time.perf_counter()
                gated.append(meter.measure(model, patient=True))
                seconds.append(time.perf_counter() - start)
                plain.append(plain_median(model, seconds[-1]))
            quiet = [x.latency_ms for x in gated if not x.noisy]
            took = [second for x, second in zip(gated, seconds, strict=True) if not x.noisy]
            print(
                row(
                    name,
                    "gated",
                    [x.latency_ms for x in gated],
                    seconds,
                    f"{repeats - len(quiet)} of {repeats}",
                )
            )
            if 2 <= len(quiet) < repeats:
                print(row(name, "not noisy", quiet, took, ""))
            print(row(name, "median", plain, seconds, ""), flush=True)


if __name__ == "__main__":
    main()
