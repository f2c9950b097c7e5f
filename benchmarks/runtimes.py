"""Compare the runtimes of this machine: integer files, their kernels, and channel steps.

    python benchmarks/runtimes.py [--device onnxruntime_cpu --device openvino]

`integers`: latency of untrained students in float32 and in 8 and 4 bits with 8-bit activations, and whether all their
products with weights run on integer kernels. `steps`: latency of a 3x3 convolution by its number of channels.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from nas_compress.devices.protocol import Device
from nas_compress.devices.table import DEVICES, open_device
from nas_compress.errors import FloatKernelError
from nas_compress.measurement.pipeline import Stopwatch, write_file
from nas_compress.models.families import build_student, family_named
from nas_compress.values.architecture import Architecture, Width
from nas_compress.values.precision import Precision
from nas_compress.values.signature import Signature

SHAPE = (1, 28, 28)
FAMILIES = ("resnet", "mobilenet", "vit", "mlp")
BITS = ((32, 32), (8, 8), (4, 8))
"""Bits of weights and activations."""

CHANNELS = tuple(range(4, 36, 2))
IMAGES = torch.randint(0, 256, (64, *SHAPE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


class Convolutions(nn.Module):
    """Two 3x3 convolutions of equal widths on a 14x14 image."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, channels, 3, stride=2, padding=1)
        self.second, self.third = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002
        """Return one number per channel."""
        hidden = torch.relu(self.second(torch.relu(self.first(input.float() / 255))))
        return torch.relu(self.third(hidden)).mean(dim=(2, 3))


def student(family: str) -> nn.Module:
    """Build the teacher's shape of a family with random weights."""
    torch.manual_seed(0)
    known = family_named(family)
    depths = (1,) * len(known.base_depths)
    widths = tuple(
        Width(layer=layer, asked=base, channels=base) for layer, base in known.layers(depths, known.base_widths)
    )
    shape = Architecture.of_images(SHAPE, classes=10, mean=128, std=64.0, family=family, depths=depths, widths=widths)
    return build_student(shape).eval()


def written(network: nn.Module, path: Path, bits: tuple[int, int], outputs: int = 10) -> Path:
    """Write a network as a file with these bits."""
    write_file(
        network,
        path,
        signature=Signature.of_images(SHAPE, classes=outputs),
        precision=Precision(weight_bits=bits[0], activation_bits=bits[1]),
        calibration={"input": IMAGES},
        watch=Stopwatch(),
    )
    return path


def print_integers(devices: Sequence[Device], folder: Path) -> None:
    """Print the latency of students by family and bits, and the kind of their kernels, as a table."""
    names = [device.name for device in devices]
    print(f"\n| student | bits | {' | '.join(f'{name}, ms | times float32 | kernels' for name in names)} |")
    print("|---|---|" + "---|" * 3 * len(names))
    for family in FAMILIES:
        network, first = student(family), dict[str, float]()
        for bits in BITS:
            path, cells = written(network, folder / "student.onnx", bits), []
            for device in devices:
                latency = device.latency(path, patient=True).latency_ms
                gain = first.setdefault(device.name, latency) / latency
                cells.append(f"{latency:.3f} | {gain:.2f} | {kernels(device, path) if bits[1] == 8 else 'float'}")
            print(f"| {family} | W{bits[0]}A{bits[1]} | {' | '.join(cells)} |", flush=True)


def kernels(device: Device, path: Path) -> str:
    """Return `integer` if all products with weights run on integer kernels, else `partly float`."""
    try:
        device.check(path, activation_bits=8)
    except FloatKernelError:
        return "partly float"
    return "integer"


def print_steps(devices: Sequence[Device], folder: Path) -> None:
    """Print the latency of convolutions by their channels, in floats and in integers."""
    for device in devices:
        for bits, words in (((32, 32), "float"), ((8, 8), "integer")):
            found = []
            for channels in CHANNELS:
                path = written(Convolutions(channels).eval(), folder / "step.onnx", bits, outputs=channels)
                found.append(f"{channels}: {device.latency(path, patient=True).latency_ms:.3f}")
            print(f"\n{device.name}, {words}, ms by channels: {', '.join(found)}", flush=True)


def main() -> None:
    """Print the two comparisons."""
    local = [name for name, entry in DEVICES.items() if entry.make is not None]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", action="append", choices=local, help="repeatable; all by default")
    given = parser.parse_args()
    torch.set_num_threads(1)
    devices = [open_device(name) for name in given.device or local]
    with tempfile.TemporaryDirectory() as folder:
        for device in devices:
            print(f"{device.name}: {device.summary}")
        print_integers(devices, Path(folder))
        print_steps(devices, Path(folder))


if __name__ == "__main__":
    main()
