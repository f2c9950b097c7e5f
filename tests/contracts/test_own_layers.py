"""Layers of every kind at every width: few bytes, the module's answers, and a true number format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from image_files import export_images, predict_logits
from nas_compress.measurement.file_contents import weight_contents
from nas_compress.measurement.graph_key import structure_key
from nas_compress.quantization.find_weights import find_weights
from nas_compress.quantization.layer_bits import bits_by_layer
from nas_compress.quantization.quantize import quantize
from nas_compress.quantization.training_aware import make_aware_
from own_networks import NETWORKS, SHAPE

SAMPLES = torch.randint(0, 17, (64, *SHAPE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
CALIBRATION = {"input": SAMPLES}
NODES = 2000
"""Bytes of the nodes that unpack weights of all widths; each weight adds NODES_OF_WEIGHT."""
NODES_OF_WEIGHT = 120


def make(name: str) -> nn.Module:
    torch.manual_seed(0)
    network = NETWORKS[name]().eval()
    with torch.no_grad():
        network(SAMPLES)  # the old weight norm computes a weight that can be copied
    return network


def least_bytes(network: nn.Module, bits: int) -> float:
    """Bytes of all parameters: weights at their width with a 16-bit scale per row, others as 32-bit floats."""
    weights = find_weights(network, CALIBRATION)
    planned = bits_by_layer(tuple(weight.layer for weight in weights), weight_bits=bits)
    tensors = {weight.tensor: planned[weight.layer] for weight in weights}
    stored = sum(tensor.numel() * few / 8 + 2 * len(tensor) for tensor, few in tensors.items())
    others = {parameter for parameter in network.parameters() if parameter not in tensors}
    rest = sum(parameter.numel() for parameter in others if parameter.ndim == 1 or parameter.shape == (32, 8, 8))
    return stored + 4 * rest


def agree(module: nn.Module, path: Path) -> None:
    with torch.no_grad():
        expected = module(SAMPLES).numpy()
    found = predict_logits(path, SAMPLES.numpy())
    assert np.abs(found - expected).max() <= 1e-4 * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(
    "bits", [2, *(pytest.param(bits, marks=pytest.mark.slow) for bits in (32, 16, 8, 4, 1))], ids=str
)
def test_a_file_has_the_bytes_of_its_bits_and_answers_like_its_module(name: str, bits: int, tmp_path: Path) -> None:
    network, path = make(name), tmp_path / "m.onnx"
    export_images(network, SHAPE, path)
    graph = path.stat().st_size - 4 * sum(parameter.numel() for parameter in network.parameters())
    module = quantize(network, weight_bits=bits, activation_bits=32, calibration=CALIBRATION)
    export_images(module, SHAPE, path)
    agree(module, path)
    assert weight_contents(path).float32_fraction == (1.0 if bits == 32 else 0.0)
    if bits < 32:
        nodes = graph + NODES + NODES_OF_WEIGHT * len(find_weights(network, CALIBRATION))
        assert path.stat().st_size < 1.1 * least_bytes(network, bits) + nodes
    assert structure_key(path) == structure_key(path)


TRAINED = [
    ("lsq", "integer", 2),
    *(pytest.param(*each, marks=pytest.mark.slow) for each in (("ste", "integer", 4), ("lsq", "codebook", 3))),
]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("method", "weight_format", "bits"), TRAINED)
def test_rounding_is_trained_and_frozen_in_every_layer(
    name: str, method: str, weight_format: str, bits: int, tmp_path: Path
) -> None:
    network = make(name)
    weights = find_weights(network, CALIBRATION)
    planned = bits_by_layer(tuple(weight.layer for weight in weights), weight_bits=bits)
    make_aware_(
        network,
        method=method,
        bits=planned,
        activation_bits=32,
        calibration=CALIBRATION,
        weight_format=weight_format,
    )
    optimiser = torch.optim.AdamW(network.train().parameters(), lr=0.003)
    for _ in range(2):
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(SAMPLES), torch.arange(64) % 10).backward()
        optimiser.step()
    network.eval()
    with torch.no_grad():
        aware = network(SAMPLES)
    module = quantize(
        network,
        weight_bits=bits,
        activation_bits=32,
        calibration=CALIBRATION,
        layer_bits=planned,
        weight_format=weight_format,
    )
    export_images(module, SHAPE, tmp_path / "m.onnx")
    agree(module, tmp_path / "m.onnx")
    assert weight_contents(tmp_path / "m.onnx").float32_fraction == 0
    with torch.no_grad():
        assert torch.equal(network(SAMPLES), aware), "the trained network stays as it was"
        # scales and biases become 16-bit floats
        assert (module(SAMPLES) - aware).abs().max() < 2e-3 * max(1.0, float(aware.abs().max()))


FORMATS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "float8": lambda network: quantize(
        network, weight_bits=8, activation_bits=32, calibration=CALIBRATION, weight_format="float8"
    ),
    "codebook": lambda network: quantize(
        network, weight_bits=3, activation_bits=32, calibration=CALIBRATION, weight_format="codebook", ranges="mse"
    ),
}


@pytest.mark.parametrize("weight_format", FORMATS)
@pytest.mark.parametrize("name", ["encoder", "bare"])
def test_other_formats_reach_every_layer_too(name: str, weight_format: str, tmp_path: Path) -> None:
    module = FORMATS[weight_format](make(name))
    export_images(module, SHAPE, tmp_path / "m.onnx")
    agree(module, tmp_path / "m.onnx")
    assert weight_contents(tmp_path / "m.onnx").float32_fraction == 0
