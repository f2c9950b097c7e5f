"""Compare integer kernels with the fused float32 of the same runtime, at one thread and batch 1.

    python benchmarks/integer_speed.py                  # all networks of the table
    python benchmarks/integer_speed.py "vit 96"         # networks with this prefix

The networks are untrained, on 28 x 28 pixels, because latency does not depend on the weights. `stored`: 8-bit weights,
converted to floats by the runtime at load time. `integer`: files with 8-bit activations. `dynamic`: onnxruntime's own
quantization of the products in the float32 file, with new ranges for every sample.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import nn

from nas_compress.devices.onnxruntime_cpu.latency import LatencyMeter
from nas_compress.devices.onnxruntime_cpu.machine import describe_machine
from nas_compress.devices.protocol import Latency
from nas_compress.measurement.pipeline import Stopwatch, write_file
from nas_compress.models.families import FAMILIES, build_student
from nas_compress.values.architecture import Architecture, Width
from nas_compress.values.precision import Precision
from nas_compress.values.signature import Signature
from nets import random_samples

SHAPE = (1, 28, 28)
NETS = (
    ("resnet", (16, 32, 64), (1, 1, 1)),
    ("resnet", (32, 64, 128), (1, 1, 1)),
    ("resnet", (64, 128, 256), (2, 2, 2)),
    ("resnet", (96, 192, 384), (2, 2, 2)),
    ("mobilenet", (32, 64, 128), (1, 1, 1)),
    ("mobilenet", (96, 192, 384), (2, 2, 2)),
    ("vit", (32,), (2,)),
    ("vit", (64,), (2,)),
    ("vit", (64,), (4,)),
    ("vit", (96,), (4,)),
    ("vit", (128,), (4,)),
    ("vit", (192,), (6,)),
    ("vit", (256,), (8,)),
)

FORMS = ("float32", "stored", "integer", "dynamic")


def network(family: str, widths: tuple[int, ...], depths: tuple[int, ...]) -> nn.Module:
    known = FAMILIES[family]
    layers = known.layers(depths, widths)
    shape = Architecture.of_images(
        SHAPE,
        family=family,
        classes=10,
        depths=depths,
        widths=tuple(Width(layer=layer, asked=base, channels=base) for layer, base in layers),
        mean=128,
        std=74.0,
    )
    torch.manual_seed(0)
    return build_student(known.complete(shape)).eval()


def files(student: nn.Module, folder: Path, *, dynamic: bool) -> dict[str, Path]:
    """Export each form of one network."""
    written = {}
    for name, weights, activations in (("float32", 32, 32), ("stored", 8, 32), ("integer", 8, 8)):
        written[name] = folder / f"{name}.onnx"
        write_file(
            student,
            written[name],
            signature=Signature.of_images(SHAPE, classes=10),
            precision=Precision(weight_bits=weights, activation_bits=activations),
            calibration=random_samples(64, SHAPE).inputs,
            watch=Stopwatch(),
        )
    if dynamic:
        written["dynamic"] = folder / "dynamic.onnx"
        quantize_dynamic(
            written["float32"], written["dynamic"], op_types_to_quantize=["MatMul", "Gemm"], weight_type=QuantType.QInt8
        )
    return written


def cell(latency: Latency) -> str:
    return f"{latency.latency_ms:.3f}{' (noisy)' if latency.noisy else ''}"


def main() -> None:
    chosen = tuple(sys.argv[1:])
    print(f"{describe_machine()}\n")
    print("| network | float32, ms | stored | integer | dynamic | float32 / integer |")
    print("|---|---|---|---|---|---|")
    meter = LatencyMeter(time_limit_s=6.0)
    for family, widths, depths in NETS:
        name = f"{family} {'-'.join(map(str, widths))}, depths {'-'.join(map(str, depths))}"
        if chosen and not name.startswith(chosen):
            continue
        with tempfile.TemporaryDirectory() as folder:
            found = files(network(family, widths, depths), Path(folder), dynamic=family == "vit")
            latencies = {form: meter.measure(path, patient=True) for form, path in found.items()}
        cells = [cell(latencies[form]) if form in latencies else "" for form in FORMS]
        ratio = latencies["float32"].latency_ms / latencies["integer"].latency_ms
        print(f"| {name} | {' | '.join(cells)} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
