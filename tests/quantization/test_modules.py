from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from image_files import export_images, predict_logits
from nas_compress.devices.onnx_session import open_session
from nas_compress.models.layers import ActivationPoint, RawInput
from nas_compress.quantization.modules import StoredConv2d, StoredLinear
from nas_compress.quantization.quantize import quantize
from processors import SATURATED, integer_kernels_saturate

SAMPLES = torch.randint(0, 17, (256, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def _scales(network: nn.Module) -> list[float | None]:
    return [module.input_scale for module in network.modules() if isinstance(module, StoredConv2d | StoredLinear)]


@pytest.mark.parametrize("family", ["resnet", "mobilenet", "vit"])
def test_the_file_adds_the_biases_of_the_module(make_network, tmp_path: Path, family: str) -> None:
    network = make_network(family)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.Linear):
            nn.init.normal_(module.bias, std=0.3, generator=torch.Generator().manual_seed(0))
    module = quantize(network, weight_bits=1, activation_bits=8, calibration={"input": SAMPLES})
    export_images(module, (1, 8, 8), tmp_path / "m.onnx")
    outputs = []
    for _ in ("rounded biases", "float biases"):
        with torch.no_grad():
            outputs.append(module(SAMPLES).numpy())
        for layer in module.modules():
            if isinstance(layer, StoredConv2d | StoredLinear):
                layer.input_scale = None

    def apart(**changes: bool) -> list[float]:
        answers = predict_logits(open_session(tmp_path / "m.onnx", **changes), SAMPLES.numpy())
        return [float(np.abs(answers - expected).mean() / np.abs(expected).max()) for expected in outputs]

    rounded, floats = apart(integer_kernels=False)
    assert rounded < 2e-4 and rounded < floats / 5, "biases are rounded without integer kernels too"
    assert min(apart(optimised=False)) < 2e-4, "biases of convolutions stay floats in the stored graph"
    rounded, floats = apart()
    if integer_kernels_saturate() and rounded >= 2e-4:
        pytest.skip(SATURATED)
    assert rounded < 2e-4 and rounded < floats / 5


class Twice(nn.Module):
    """One convolution of tensors of two scales, and one of half a tensor's channels."""

    def __init__(self) -> None:
        super().__init__()
        self.raw, self.first, self.last = RawInput(8, 4.0), nn.Conv2d(1, 4, 1), nn.Linear(2, 3)
        self.both, self.points = nn.Conv2d(4, 4, 1), nn.ModuleList([ActivationPoint() for _ in range(3)])

    def forward(self, samples: Tensor) -> Tensor:
        values = self.points[0](self.first(self.raw(samples)))
        values = self.points[1](self.both(values))
        values = self.points[2](self.both(values).mean((2, 3)))
        return self.last(values[:, :2])


def test_a_layer_of_two_inputs_or_of_part_of_one_keeps_its_bias() -> None:
    torch.manual_seed(0)
    module = quantize(Twice(), weight_bits=8, activation_bits=8, calibration={"input": SAMPLES})
    first, last, both = _scales(module)
    assert first == 0.25 and last is None and both is None
