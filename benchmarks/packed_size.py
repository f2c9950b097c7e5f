"""Print the bytes of packed files: parameters at their own widths, and the graph.

Run: python benchmarks/packed_size.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from torch import nn

from nas_compress.export.onnx_file import export_onnx
from nas_compress.models.families import build_student
from nas_compress.quantization.layer_bits import bits_by_layer, weight_layers
from nas_compress.quantization.quantize import quantize
from nas_compress.values.precision import precisions
from nas_compress.values.signature import Signature
from nets import architecture, random_samples

SHAPE = (1, 28, 28)


def parameter_bytes(network: nn.Module, weight_bits: int) -> float:
    """Return the bytes of weights at the bits of their layers, and of all other parameters at 16 bits."""
    bits = bits_by_layer(weight_layers(network), weight_bits=weight_bits)
    weights = sum(network.get_parameter(f"{path}.weight").numel() * width / 8 for path, width in bits.items())
    others = sum(parameter.numel() for parameter in network.parameters() if parameter.ndim == 1)
    return weights + others * 2


def main() -> None:
    samples = random_samples(64, SHAPE).inputs["input"]
    print(
        "| network | parameters | W | A | bytes | of its parameters | the rest | bytes / (parameters x W / 8 + 4096) |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for family, multiplier in (("resnet", 0.5), ("resnet", 1.0), ("mobilenet", 2.0)):
        torch.manual_seed(0)
        network = build_student(architecture(family, SHAPE, depths=(1, 1, 1), multiplier=multiplier)).eval()
        count = sum(parameter.numel() for parameter in network.parameters())
        for weight_bits, activation_bits in precisions():
            if activation_bits == 4 or weight_bits == 32:
                continue
            module = quantize(
                network, weight_bits=weight_bits, activation_bits=activation_bits, calibration={"input": samples}
            )
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "model.onnx"
                export_onnx(module, Signature.of_images(SHAPE, classes=10), path)
                size = path.stat().st_size
            own = parameter_bytes(network, weight_bits)
            nominal = count * weight_bits / 8 + 4096
            print(
                f"| {family} | {count:,} | {weight_bits} | {activation_bits} | {size:,} | {own:,.0f} "
                f"| {size - own:,.0f} | {size / nominal:.3f} |"
            )


if __name__ == "__main__":
    main()
